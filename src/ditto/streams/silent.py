"""Requests of an unknown protocol that are never answered, told apart from others by their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ditto.streams.cycles import Cycle

SILENT = b"\0"
"""Ends the key of a class of requests that get no reply, beside one of the same kind that do."""


def apart(classes: Mapping[bytes, list[Cycle]]) -> dict[bytes, list[Cycle]]:
    """Classes with those requests of each that have no reply as a class of their own, where no other is as long.

    A goodbye may be as long as a greeting, to the power of two that sizes are told by, and is dealt with otherwise.
    """
    found: dict[bytes, list[Cycle]] = {}
    for key, cycles in classes.items():
        silent = [cycle for cycle in cycles if not cycle.sent]
        answered = [cycle for cycle in cycles if cycle.sent]
        lengths = {cycle.received_bytes for cycle in silent}
        if not silent or not answered or lengths & {cycle.received_bytes for cycle in answered}:
            found[key] = cycles
        else:
            found[key], found[key + SILENT] = answered, silent
    return found
