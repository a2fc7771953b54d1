"""How the replies of a wake-up with several requests relate to its end."""

from __future__ import annotations

from ditto.streams.cycles import Cycle, ThreadWork, Wake
from ditto.streams.events import SENDS


def deferral(threads: list[ThreadWork]) -> tuple[float, bool]:
    """How replies relate to the end of a wake-up.

    Returns:
        The share of requests (of those followed by another in the same wake-up) whose reply left only after the
        later one was received, and whether replies then leave in reverse order.
    """
    early = late = forward = backward = 0
    for thread in threads:
        for wake in thread.wakes:
            if len(wake.received) < 2:
                continue
            for cycle in wake.received[:-1]:
                if cycle.sent:
                    late += cycle.deferred
                    early += not cycle.deferred
            first, last = _first_send(wake, wake.received[0]), _first_send(wake, wake.received[-1])
            if first is not None and last is not None:
                forward += first < last
                backward += last < first
    total = early + late
    return (late / total if total else 0.0, backward > forward)


def _first_send(wake: Wake, cycle: Cycle) -> int | None:
    for event, where in zip(cycle.events, cycle.wake_of, strict=True):
        if event.nr in SENDS and where is wake:
            return event.index
    return None
