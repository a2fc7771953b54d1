"""A small profile for tests: one event loop with two classes of requests."""

from __future__ import annotations

from ditto.artifacts.profile import (
    ClassMatch,
    Dist,
    FileGroup,
    Listener,
    Load,
    Op,
    OpKind,
    Process,
    Profile,
    Receive,
    ReplyShape,
    RequestClass,
    Role,
    Send,
    ServiceProfile,
    Timer,
)
from ditto.artifacts.work import Block

MIX = {"mov_l": 0.25, "mov_s": 0.1, "mov_r": 0.15, "arith_r": 0.15, "cmp_r": 0.15, "jcc": 0.15, "lea_r": 0.05}


def fixed(value: int) -> Dist:
    return Dist(values=[value], weights=[1.0])


def block(instructions: float = 1000.0, **changes: object) -> Block:
    scale = instructions / 1000
    values: dict[str, object] = {
        "instructions": instructions, "mix": MIX, "loads": 250 * scale, "stores": 100 * scale, "branches": 150 * scale,
        "load_distance": [v * scale for v in (60, 40, 40, 40, 30, 20, 20)],
        "store_distance": [v * scale for v in (40, 20, 20, 10, 10)],
        "code_distance": [v * scale for v in (120, 10, 20, 20, 10, 10, 60)], "code_touches": 250 * scale,
        "predictor_misses": 4 * scale, "request_class": 0, "after": 0,
    }  # fmt: skip
    return Block.model_validate({**values, **changes})


def service_profile(**changes: object) -> Profile:
    """GET and SET of a keyed store on one epoll loop, a timer, and one kind of file."""
    compute = Op(kind=OpKind.COMPUTE, block=0)
    reply = Op(kind=OpKind.REPLY, nr=1, deferred=True)
    service = ServiceProfile(
        name="service-1",
        codec="resp2",
        classes=[
            RequestClass(
                probability=0.75,
                match=ClassMatch(verb="GET"),
                request_bytes=fixed(36),
                replies=[
                    ReplyShape(probability=0.9, kind="bulk", size=fixed(100)),
                    ReplyShape(probability=0.1, kind="nil"),
                ],
                program=[compute, reply, Op(kind=OpKind.COMPUTE, block=2, deferred=True)],
            ),
            RequestClass(
                probability=0.25,
                match=ClassMatch(verb="SET"),
                request_bytes=fixed(144),
                replies=[ReplyShape(probability=1.0, kind="simple", size=fixed(2))],
                program=[Op(kind=OpKind.COMPUTE, block=1), reply],
                send=Send(nr=20, iovs=2),
            ),
        ],
        receive=Receive(nr=0, bytes=16384),
        send=Send(nr=1, per_read=True),
        listener=Listener(accept_flags=2048),
        roles=[
            Role(
                kind="loop",
                count=1,
                wait_nr=232,
                listens=True,
                on_wake_block=3,
                on_accept=[Op(kind=OpKind.EPOLL_ADD, nr=233, a=1)],
                on_close=[Op(kind=OpKind.CLOSE, nr=3)],
                timers=[Timer(period_ms=100, program=[Op(kind=OpKind.MISC, nr=39)])],
            )
        ],
        processes=[Process(roles=[0])],
        files=[FileGroup(kind="regular", size=fixed(4096))],
        blocks=[
            block(),
            block(2000.0, request_class=1),
            block(4.0, after=1),
            block(300.0, request_class=-1, after=232, runs_per_request=0.5),
        ],
        load=Load(connections=20, requests_per_second=90_000),
    )
    values: dict[str, object] = {"ditto_version": "0.1.0", "seed": 7, "services": [service], **changes}
    return Profile.model_validate(values)
