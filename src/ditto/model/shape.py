"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from collections import defaultdict

from ditto.errors import UnsupportedShapeError
from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS
from ditto.streams.evidence import Evidence

SOME = 0.05
"""Share of requests (or of connections) from which on something belongs to the shape of a server."""


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
    servers: dict[int, set[int]] = defaultdict(set)
    for cycle in cycles:
        servers[cycle.connection.serial].add(cycle.tid)
    passed = sum(len(tids) > 1 for tids in servers.values())
    if passed > SOME * len(servers):
        raise UnsupportedShapeError(
            f"{app}: {passed} of {len(servers)} connections pass from thread to thread, which is not modelled",
            "configure it so that a connection stays with its thread or process",
        )


def _calls_others(cycle: Cycle) -> bool:
    return any(event.obj is not None and event.obj.kind == "downstream" and event.nr in SENDS for event in cycle.events)
