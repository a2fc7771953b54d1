"""Requests that came one at a time: the calls that are made while one is under way are its own, whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDFILES, SENDS


def by_themselves(classes: Mapping[bytes, list[Cycle]]) -> dict[bytes, list[Cycle]]:
    """Those requests, by class, that ended before the next one came.

    Where the load is let through one request at a time, several come at once as that ends; their calls may be given to
    each other.
    """
    cycles = sorted((cycle for found in classes.values() for cycle in found), key=lambda cycle: cycle.receive.t_out)
    met = {id(cycle) for cycle in cycles if cycle.outstanding}
    latest: Cycle | None = None
    for before, cycle in pairwise(cycles):
        latest = before if latest is None or _end(before) > _end(latest) else latest
        if cycle.receive.t_out < _end(latest):
            met |= {id(latest), id(cycle)}
    return {key: kept for key, found in classes.items() if (kept := [c for c in found if id(c) not in met])}


def _end(cycle: Cycle) -> int:
    """When its reply had left, or the last call for it where it has none; ns."""
    sent = [e.t_out for e in cycle.events if e.obj is cycle.connection and (e.nr in SENDS or e.nr in SENDFILES)]
    return max(sent or (e.t_out for e in cycle.events), default=cycle.receive.t_out)
