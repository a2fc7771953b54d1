"""Shapes of servers that have no model: refused with a sentence, for a clone of them would be another server."""

from __future__ import annotations

from ditto.errors import UnsupportedShapeError
from ditto.model.downstream import calls_outside, calls_overlapping
from ditto.streams.datagrams import answered_apart
from ditto.streams.evidence import Evidence

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
    if overlapping > SOME * total:
        notes.append(
            f"{overlapping / total:.0%} of the requests share a connection to another service with others that wait "
            "there: those of the clone have one each"
        )
    return notes


def require_known_shape(evidence: Evidence) -> None:
    """Check that requests are served in a way that can be modelled.

    Raises:
        UnsupportedShapeError: datagrams that others answer than received them, or connections that go from
            thread to thread.
    """
    app = evidence.observation.app
    cycles = [cycle for found in evidence.requests.classes.values() for cycle in found]
    apart = answered_apart(evidence.work)
    if evidence.datagrams and apart > SOME * len(cycles):
        raise UnsupportedShapeError(
            f"{app}: {apart} datagrams are sent by threads that received none, which is not modelled",
            "configure it so that whoever receives a datagram answers it",
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
