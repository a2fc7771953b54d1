"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from collections import Counter, defaultdict

from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import UnsupportedShapeError
from ditto.model.downstream import calls_itself, calls_outside, calls_overlapping
from ditto.streams.cycles import Work
from ditto.streams.datagrams import answered_apart
from ditto.streams.events import RECEIVES, Obj, tells_of_sends
from ditto.streams.evidence import Evidence
from ditto.streams.messages import BETWEEN
from ditto.streams.passing import passes

_RING = NUMBERS["io_uring_enter"]
_AF_UNIX = b"\1\0"
"""Family of the address that an accept returns."""
MANY_RECEIVES = 8
"""In one request without an answer, from which on it is a stream."""
SOME = 0.05
"""Share of requests from which on something belongs to the shape of a server."""


def parts_left_out(evidence: Evidence) -> list[str]:
    """What is not modelled of a server that has a model otherwise: a sentence each, with what would mend it."""
    total = max(1, evidence.requests.total)
    outside, overlapping = calls_outside(evidence.work), calls_overlapping(evidence.work)
    notes = []
    if outside > SOME * total:
        notes.append(
            f"{outside / total:.2f} messages a request go to another service for no request and are left out: "
            "only calls by the thread that serves a request are modelled"
        )
    untold = sum(tells_of_sends(e) for thread in evidence.work.threads.values() for e in thread.events)
    if untold > SOME * total:
        notes.append(
            f"{untold / total:.2f} calls a request ask which sends without copying (MSG_ZEROCOPY) are over, and are "
            "left out: the clone's sends copy"
        )
    if overlapping > SOME * total:
        notes.append(
            f"{overlapping / total:.0%} of the requests share a connection to another service with others that wait "
            "there: those of the clone have one each"
        )
    if _local(evidence) > SOME * total:
        notes.append(
            "clients come over a Unix socket, and the clone listens on a TCP port: give load.clone_command in "
            "app.toml, the client as it goes to {port}"
        )
    silent = receives_without_reply(evidence)
    if silent > MANY_RECEIVES:
        notes.append(
            f"the service answers nothing to {silent:.0f} receives in a row, so that where one request ends and the "
            "next begins is not seen: all that comes before an answer or the end of a connection counts as one"
        )
    between = messages_between_threads(evidence)
    if between > SOME * total:
        notes.append(
            f"{between / total:.2f} messages a request pass between its threads or processes over pipes, socket pairs "
            "or event descriptors and are left out, with what their receiver does: the clone answers without"
        )
    if evidence.requests.codec == "opaque":
        encrypted = ", which is TLS," if _encrypted(evidence) else ""
        notes.append(
            f"the protocol{encrypted} has no codec: the app's own client cannot drive the clone; `ditto load` does, "
            "with messages of the sizes that were seen"
        )
    return notes


def _encrypted(evidence: Evidence) -> bool:
    """Whether nearly all requests are records of TLS: their type, and the version's first byte."""
    begun = [cycle.receive.payload[:2] for found in evidence.requests.classes.values() for cycle in found]
    return sum(b"\x14\x03" <= start <= b"\x17\x03" and start[1:] == b"\x03" for start in begun) > 0.9 * len(begun)


def receives_without_reply(evidence: Evidence) -> float:
    """Receives in a request of a protocol without a codec, where most of the requests are never answered."""
    cycles = [cycle for found in evidence.requests.classes.values() for cycle in found]
    silent = [cycle for cycle in cycles if not cycle.sent]
    if evidence.requests.codec != "opaque" or evidence.datagrams or 2 * len(silent) <= len(cycles):
        return 0.0
    received = sum(e.nr in RECEIVES and e.ret > 0 and e.obj is c.connection for c in silent for e in c.events)
    return received / len(silent)


def _local(evidence: Evidence) -> int:
    """Requests on connections that came over a Unix socket."""
    lives = evidence.work.lives.values()
    return sum(life.requests for life in lives if life.accept is not None and life.accept.payload[:2] == _AF_UNIX)


def messages_between_threads(evidence: Evidence) -> int:
    """Receives of what others of the service sent that have no model, but for one a connection, which hands it over."""
    received = sum(
        event.nr in RECEIVES
        and event.ret > 0
        and event.obj is not None
        and event.obj.kind in BETWEEN
        and event.target is None
        for thread in evidence.work.threads.values()
        for event in thread.events
    )
    return max(0, received - sum(life.accept is not None for life in evidence.work.lives.values()))


def served_before_passed(work: Work) -> float:
    """Share of the requests on connections that two processes serve, of which one has passed them to the other."""
    served: dict[Obj, Counter[int]] = defaultdict(Counter)
    for thread in work.threads.values():
        for cycle in thread.cycles:
            served[cycle.connection][thread.pid] += 1
    passed = [obj for obj, pids in served.items() if len(pids) > 1 and any(map(passes, work.lives[obj].setup))]
    total = sum(pids.total() for pids in served.values())
    return sum(served[obj].total() for obj in passed) / max(1, total)


def _to_new_ports(evidence: Evidence) -> tuple[int, int]:
    """The connections to listeners that were made after the recording began, and all that were accepted."""
    accepts = [life.accept for life in evidence.work.lives.values() if life.accept is not None]
    began = evidence.stream.window_ns[0]
    new = sum(accept.obj is not None and began < accept.obj.born_ns < accept.t_out for accept in accepts)
    return new, len(accepts)


def require_requests(evidence: Evidence) -> None:
    """Check that requests were seen, and that they were not received where they cannot be seen.

    Raises:
        UnsupportedShapeError: none was, or they came through io_uring.
    """
    app, total = evidence.observation.app, evidence.requests.total
    events = [event for thread in evidence.work.threads.values() for event in thread.events]
    entered = sum(event.nr == _RING for event in events)
    ring = any(obj.kind == "io_uring" for obj in evidence.stream.descriptors.objects)
    if entered > SOME * total or (ring and not total):
        raise UnsupportedShapeError(
            f"{app}: it works through io_uring, whose operations are no system calls, which is not modelled",
            "configure it so that it waits for events (epoll, poll, select)",
        )
    if not total:
        raise UnsupportedShapeError(
            f"{app}: no request was seen on any accepted connection",
            "check that the load in app.toml reaches the service's port",
        )


def require_known_shape(evidence: Evidence) -> None:
    """Check that requests are served in a way that can be modelled.

    Raises:
        UnsupportedShapeError: datagrams that others answer than received them, connections that go from
            thread to thread, or such as come to ports that were opened for them meanwhile.
    """
    app = evidence.observation.app
    opened, accepted = _to_new_ports(evidence)
    if opened > SOME * accepted:
        raise UnsupportedShapeError(
            f"{app}: {opened} of {accepted} connections come to ports that it opens for them while it serves others "
            "(as FTP does for data), which is not modelled",
            "give it a load whose clients use the service's port alone",
        )
    share = served_before_passed(evidence.work)
    if share > SOME:
        raise UnsupportedShapeError(
            f"{app}: {share:.0%} of the requests come on connections that one process serves and then passes to "
            "another (as a login does), which is not modelled",
            "give it a load without that first part, or configure it so that a connection stays with its process",
        )
    own = calls_itself(evidence)
    if own > SOME * evidence.requests.total:
        raise UnsupportedShapeError(
            f"{app}: {own / evidence.requests.total:.0%} of the requests are its own, to the port that it listens on "
            "(as a gateway makes to the server that it is part of), which is not modelled",
            "give it a load that does not go through the gateway",
        )
    cycles = [cycle for found in evidence.requests.classes.values() for cycle in found]
    apart = answered_apart(evidence.work)
    if evidence.datagrams and apart > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: {apart} datagrams are sent by threads that received none, which is not modelled",
            "configure it so that whoever receives a datagram answers it",
        )
    sharing = evidence.sharing
    if sharing.shared and not sharing.complete:
        raise UnsupportedShapeError(
            f"{app}: {sharing.passed} of {sharing.connections} connections pass from "
            + (
                "process to process"
                if sharing.strays
                else "thread to thread by other means than a queue or a wait in turn"
            )
            + ", which is not modelled",
            "configure it so that a connection stays with its thread or process",
        )
