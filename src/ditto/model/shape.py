"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from collections import defaultdict

from ditto.errors import UnsupportedShapeError
from ditto.model.downstream import calls_outside, calls_overlapping
from ditto.streams.evidence import Evidence

SOME = 0.05
"""Share of requests (or of connections) from which on something belongs to the shape of a server."""


def require_known_shape(evidence: Evidence) -> None:
    """Check that requests are served in a way that can be modelled.

    Raises:
        UnsupportedShapeError: calls to other services belong to no request or share a connection, or connections go
            from thread to thread.
    """
    app = evidence.observation.app
    cycles = [cycle for found in evidence.requests.classes.values() for cycle in found]
    outside, overlapping = calls_outside(evidence.work), calls_overlapping(evidence.work)
    if outside > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: {outside / len(cycles):.2f} messages a request go to another service for no request, which "
            "is not modelled",
            "configure it so that the thread which serves a request makes its calls",
        )
    if overlapping > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: {overlapping / len(cycles):.0%} of its requests share a connection to another service with others "
            "that wait there, which is not modelled",
            "configure it so that a connection has one request at a time",
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
