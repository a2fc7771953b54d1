"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from ditto.errors import UnsupportedShapeError
from ditto.model.downstream import calls_outside, calls_overlapping
from ditto.streams.evidence import Evidence

SOME = 0.05
"""Share of requests from which on something belongs to the shape of a server."""


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
    if sharing.shared and sum(bool(cycle.calls) for cycle in cycles) > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: its threads share connections and call another service for them, which is not modelled together",
            "configure it so that a connection stays with its thread or process",
        )
    if sharing.shared and not sharing.complete:
        raise UnsupportedShapeError(
            f"{app}: {sharing.passed} of {sharing.connections} connections pass from "
            + ("process to process" if sharing.strays else "thread to thread in a way")
            + ", which is not modelled",
            "configure it so that a connection stays with its thread or process",
        )
