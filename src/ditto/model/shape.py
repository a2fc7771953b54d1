"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from ditto.errors import UnsupportedShapeError
from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS
from ditto.streams.evidence import Evidence

SOME = 0.05
"""Share of requests from which on something belongs to the shape of a server."""


def require_known_shape(evidence: Evidence) -> None:
    """Check that requests are served in a way that can be modelled.

    Raises:
        UnsupportedShapeError: requests wait for other services, or connections go from thread to thread.
    """
    app = evidence.observation.app
    cycles = [cycle for found in evidence.requests.classes.values() for cycle in found]
    calling = sum(_calls_others(cycle) for cycle in cycles)
    if calling > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: {calling / len(cycles):.0%} of its requests call another service, which is not modelled",
            "clone the service that it calls, or observe it with a load that is answered without calls",
        )
    if evidence.datagrams and evidence.requests.codec == "opaque":
        raise UnsupportedShapeError(
            f"{app}: its requests are datagrams of a protocol that has no codec, which is not modelled",
            "clone a service over connections, or one that speaks DNS",
        )
    if evidence.datagrams and not any(cycle.wake.wait is not None for cycle in cycles):
        raise UnsupportedShapeError(
            f"{app}: its threads wait for datagrams in the receive itself, which is not modelled",
            "configure it so that it waits for events (epoll, poll, select)",
        )
    sharing = evidence.sharing
    if sharing.shared and not sharing.complete:
        raise UnsupportedShapeError(
            f"{app}: {sharing.passed} of {sharing.connections} connections pass from "
            + ("process to process" if sharing.strays else "thread to thread in a way")
            + ", which is not modelled",
            "configure it so that a connection stays with its thread or process",
        )


def _calls_others(cycle: Cycle) -> bool:
    return any(event.obj is not None and event.obj.kind == "downstream" and event.nr in SENDS for event in cycle.events)
