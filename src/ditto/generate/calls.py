"""Tables of the services that a clone calls: its requests to them, made ahead, and what stands in for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ditto.artifacts.plan import Step, StepFlags
from ditto.artifacts.profile import CallClass, Dist, Downstream
from ditto.generate.writer import CODECS, Tables, chance, cumulative, reply_rows
from ditto.host.synthetic import sample_requests

VARIANTS = 32
"""Requests that are made of each class: enough for its sizes, and for as many keys."""
LARGEST = 1 << 20
ALL_BYTES = 4 << 20
"""Of the requests of one downstream together; there are fewer of each class where they are large."""
OWN_US = 50
"""What a reply of a stand-in takes without any delay: it is taken off the delays that were observed."""


def downstream_rows(tables: Tables, downstreams: Sequence[Downstream], seed: int) -> list[str]:
    """The initialisers of ``struct ditto_downstream``, one a downstream."""
    return [_row(tables, downstream, seed) for downstream in downstreams]


def _row(tables: Tables, downstream: Downstream, seed: int) -> str:
    calls = tables.array("struct ditto_call_class", _calls(tables, downstream))
    receive = downstream.receive
    return (
        f"{{.pool = DITTO_POOL_{downstream.pool.upper()}, .blocking = {int(downstream.blocking)}, "
        f".recv = {{{receive.nr}, {receive.bytes}u, {receive.flags}, 0, 0}}, "
        f".connect = {tables.program(downstream.connect)}, .call = {calls}, "
        f".service = {_stand_in(tables, downstream, seed)}}}"
    )


def _stand_in(tables: Tables, downstream: Downstream, seed: int) -> str:
    """A service that has nothing but what a codec needs of one."""
    shares = cumulative([max(cls.probability, 1e-12) for cls in downstream.classes])
    rows = []
    for cls, share in zip(downstream.classes, shares, strict=True):
        match = cls.match
        verb = f'"{match.verb}"' if match.verb else "NULL"
        replies = tables.array("struct ditto_reply", reply_rows(tables, cls.replies))
        rows.append(
            f"{{.match = {{{verb}, {match.argc}, {match.path_print}, {match.min_bytes}u, {match.max_bytes}u}}, "
            f".prob = {share}u, .replies = {len(cls.replies)}, .reply = {replies}, .closes = {chance(cls.closes)}u}}"
        )
    classes = tables.array("struct ditto_class", rows)
    row = (
        f"{{.version = DITTO_TABLES_VERSION, .seed = {seed}u, .print_key = {downstream.print_key}u, "
        f".codec = {CODECS[downstream.codec]}, .classes = {len(rows)}, .cls = {classes}}}"
    )
    return tables.array("struct ditto_service", [row])


def _calls(tables: Tables, downstream: Downstream) -> list[str]:
    sizes = [_sizes(cls.request_bytes, downstream) for cls in downstream.classes]
    made = sample_requests(downstream.codec, downstream.print_key, downstream.classes, sizes)
    rows = []
    for cls, steps in zip(downstream.classes, made, strict=True):
        requests = tables.array("struct ditto_request", [_request(tables, step) for step in steps])
        rows.append(f"{{{len(steps)}, {requests}, {tables.dist(_delays(cls))}}}")
    return rows


def _sizes(dist: Dist, downstream: Downstream) -> list[int]:
    """Values in equal shares of a distribution."""
    wanted = [min(value, LARGEST) for value in dist.values]
    mean = sum(v * w for v, w in zip(wanted, dist.weights, strict=True)) / sum(dist.weights)
    room = ALL_BYTES / len(downstream.classes) / max(1.0, mean)
    one = len(wanted) == 1 and downstream.codec in ("http1", "fastcgi", "opaque")
    number = 1 if one else max(1, min(VARIANTS, int(room)))
    ends = list(accumulate(dist.weights))
    places = [(i + 0.5) / number * ends[-1] for i in range(number)]
    return [next((v for v, end in zip(wanted, ends, strict=True) if place <= end), wanted[-1]) for place in places]


def _request(tables: Tables, step: Step) -> str:
    text = tables.text(step.request)
    return f"{{{len(step.request)}u, {text}, {int(bool(step.flags & StepFlags.NOBODY))}}}"


def _delays(cls: CallClass) -> Dist | None:
    if cls.delay_us is None or max(cls.delay_us.values) <= OWN_US:
        return None
    return cls.delay_us.model_copy(update={"values": [max(0, value - OWN_US) for value in cls.delay_us.values]})


def describe(downstreams: Sequence[Downstream]) -> list[str]:
    """The same as lines of text."""
    lines = []
    for number, downstream in enumerate(downstreams):
        lines.append(
            f"downstream {number} codec={downstream.codec} pool={downstream.pool} blocking={int(downstream.blocking)}"
        )
        for cls in downstream.classes:
            delay = f"{cls.delay_us.mean:.0f}us" if cls.delay_us else "-"
            lines.append(
                f"  call p={cls.probability:.4f} verb={cls.match.verb or '-'} print={cls.match.path_print} "
                f"bytes={cls.request_bytes.mean:.1f} delay={delay}"
            )
    return lines
