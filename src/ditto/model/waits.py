"""How an event loop waits: how many events it takes at a time, and for how long it waits for them."""

from __future__ import annotations

from collections import Counter

from ditto.artifacts.profile import Op, OpKind
from ditto.artifacts.syscalls import numbers
from ditto.streams.events import Event, wait_timeout

_EPOLLS = numbers("epoll_wait", "epoll_pwait")
DEFAULT_EVENTS = 64
MOST_EVENTS = 65535
LONGEST_MS = 1 << 30
EPOLLIN = 1


def most_events(waits: list[Event]) -> int:
    """The usual size of the list of events; a default for primitives that have none."""
    sizes = Counter(int(wait.args[2]) & 0xFFFFFFFF for wait in waits if wait.nr in _EPOLLS)
    return max(1, min(sizes.most_common(1)[0][0], MOST_EVENTS)) if sizes else DEFAULT_EVENTS


def longest_timeout(waits: list[Event]) -> int:
    """-1 where a thread ever waited for ever, else the longest time-out seen, in milliseconds."""
    values = [timeout for wait in waits if (timeout := wait_timeout(wait)) is not None]
    if not values or min(values) < 0:
        return -1
    return min(max(values), LONGEST_MS)


def longest_rest(waits: list[Event]) -> int:
    """The same of a thread that nothing comes to.

    One that was only seen looking, without a wait, rests elsewhere: a loop of such looks would never rest.
    """
    return longest_timeout(waits) or -1


def watched_last(program: list[Op]) -> list[Op]:
    """The program with the connection not left unwatched: a server's call for that comes before the receive.

    What is done to a connection before it is received from is counted to the request before: after the reply to that
    one, the clone would wait for ever.
    """
    changes = [at for at, op in enumerate(program) if op.kind is OpKind.EPOLL_MOD and op.link is None]
    if len(changes) < 2 or program[changes[-1]].a & EPOLLIN or not any(program[at].a & EPOLLIN for at in changes):
        return program
    return [program[changes[-1]], *program[: changes[-1]], *program[changes[-1] + 1 :]]
