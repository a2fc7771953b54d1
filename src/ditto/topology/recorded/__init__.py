"""A recording of all services of an app → the same graph as from traces, without any.

Each request that a service got becomes a span, and each call that it made; the passes over spans do the rest.
"""

from __future__ import annotations

from ditto.topology.recorded.stage import graph_of_recording

__all__ = ["graph_of_recording"]
