"""Connections that processes are given by another one, with messages over socket pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ditto.artifacts.profile import Passage, Role
from ditto.model.roles import WAIT_NAMES, RoleSeen
from ditto.model.serial import listener_waits
from ditto.streams.arguments import signed
from ditto.streams.events import EAGAIN, RECEIVES, Event
from ditto.streams.evidence import Evidence
from ditto.streams.passing import PASSAGE, passes

_CMSG_CLOEXEC = 0x40000000
_DONTWAIT = 0x40
_MOST_BYTES = 4096


def with_passages(evidence: Evidence, seen: list[RoleSeen], roles: list[Role]) -> list[Role]:
    """The roles, those that connections pass to told by what they take them."""
    given = {role.hand_to for role in roles if role.handover == "pass"}
    return [
        role.model_copy(update=_taking(evidence, seen[index], role)) if index in given else role
        for index, role in enumerate(roles)
    ]


def _taking(evidence: Evidence, seen: RoleSeen, role: Role) -> dict[str, object]:
    """How a role's threads take connections, as fields of the role."""
    taken = [event for event in _messages(evidence, seen) if passes(event)]
    vain = sum(event.ret == EAGAIN for event in _messages(evidence, seen))
    sizes = Counter(min(_MOST_BYTES, max(1, event.ret)) for event in taken)
    flags = Counter(signed(event.args[2]) & (_CMSG_CLOEXEC | _DONTWAIT) for event in taken)
    by_thread = {event.tid: event.obj for event in taken}
    passage = Passage(
        bytes=sizes.most_common(1)[0][0] if sizes else 1,
        flags=flags.most_common(1)[0][0] if flags else 0,
        own=len(by_thread) < 2 or len({id(obj) for obj in by_thread.values()}) > 1,
        again=role.kind == "loop" and 2 * vain > len(taken),
    )
    fields: dict[str, object] = {"passage": passage, "notify_nr": 0}
    if role.kind == "serve":
        waits = listener_waits(seen)
        fields["listen_wait"] = WAIT_NAMES.get(waits.most_common(1)[0][0], "blocking") if waits else "blocking"
    return fields


def _messages(evidence: Evidence, seen: RoleSeen) -> Iterator[Event]:
    """The messages by which threads took connections, or found none."""
    own = set(seen.threads)
    for events in (evidence.stream.outside, *(evidence.stream.threads.get(tid, ()) for tid in own)):
        for event in events:
            if event.tid in own and event.nr in RECEIVES and event.obj is not None and event.obj.kind == PASSAGE:
                yield event
