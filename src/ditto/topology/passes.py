"""The queries in order, on any engine: spans and shapes in, tables of calls, branches and entries out.

What takes as many rounds as a trace is deep is done by doubling: each round follows every pointer twice as far.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from ditto.artifacts.graph import MOST_EDGES, MOST_STEPS
from ditto.errors import BadInputError
from ditto.host.progress import Progress
from ditto.topology.engine import Columns, Engine, run_script
from ditto.topology.rows import COLUMNS, LINK_COLUMNS

# A prime: marks are below it, so that the product of two fits in 63 bits.
MARK = 2147483647
_SEED = 1


@dataclass(frozen=True)
class Edge:
    """An edge by the numbers of its endpoints."""

    endpoint: int
    target: int
    later: bool
    calls: int


def create_inputs(engine: Engine) -> None:
    """The tables that are filled from outside."""
    columns = ", ".join(f"{name} BIGINT" for name in COLUMNS)
    engine.run(f"CREATE TABLE span (n BIGINT, {columns})")
    engine.run("CREATE TABLE link (" + ", ".join(f"{name} BIGINT" for name in LINK_COLUMNS) + ")")
    names = ("shape", "service", "host", "endpoint", "leaf", "kind", "queue")
    engine.run("CREATE TABLE shape (" + ", ".join(f"{name} BIGINT" for name in names) + ")")


def run_passes(engine: Engine, progress: Progress) -> list[Edge]:
    """Everything from spans to branches; the edges, whose place in the list is their number in the tables.

    Raises:
        BadInputError: more edges than a graph may have.
    """
    progress.update("parents", 0.5)
    run_script(engine, "1_spans")
    run_script(engine, "2_parents")
    _cut_cycles(engine)
    progress.update("entries", 0.65)
    run_script(engine, "3_entries")
    _find_owners(engine)
    progress.update("clocks", 0.75)
    run_script(engine, "4_skew")
    progress.update("calls", 0.8)
    run_script(engine, "5_calls")
    rows = engine.rows("SELECT endpoint, target, later, calls FROM kinds_of_call ORDER BY endpoint, target, later")
    if len(rows) > MOST_EDGES:
        raise BadInputError(f"{len(rows)} kinds of calls, more than {MOST_EDGES}", "give the traces of one app")
    edges = [Edge(int(a), int(b), bool(later), int(calls)) for a, b, later, calls in rows]
    _mark(engine, edges)
    progress.update("order of calls", 0.85)
    run_script(engine, "6_order")
    return edges


def _cut_cycles(engine: Engine) -> None:
    """Cut the link of every span that is its own ancestor; ``cyclic`` holds them.

    After following pointers as far as the largest trace is long, only what leads into a cycle has not ended, and it
    points at a span of the cycle; every span of a cycle is pointed at.
    """
    largest = engine.rows(
        "SELECT COALESCE(MAX(c), 1) FROM (SELECT COUNT(*) AS c FROM rel r JOIN suspect s ON s.trace = r.trace"
        " GROUP BY r.trace) x"
    )[0][0]
    table = "walk"
    for turn in range(math.ceil(math.log2(max(2, int(largest)))) + 1):
        if not engine.rows(f"SELECT 1 FROM {table} LIMIT 1"):
            break
        following = f"walk_{turn}"
        engine.run(f"CREATE TABLE {following} AS SELECT w.n, x.up FROM {table} w JOIN {table} x ON x.n = w.up")
        engine.run(f"DROP TABLE {table}")
        table = following
    engine.run(f"CREATE TABLE cyclic AS SELECT DISTINCT up AS n FROM {table}")
    engine.run(f"DROP TABLE {table}")
    if engine.rows("SELECT 1 FROM cyclic LIMIT 1"):
        engine.run("UPDATE rel SET up = NULL, up_shape = NULL WHERE n IN (SELECT n FROM cyclic)")


def _find_owners(engine: Engine) -> None:
    """``own``: for every span that begins no request, the entry whose request it belongs to."""
    turn = 0
    while True:
        table, following = f"inner_{turn}", f"inner_{turn + 1}"
        engine.run(
            f"CREATE TABLE {following} AS SELECT x.n, COALESCE(p.above, x.above) AS above,"
            f" CASE WHEN p.n IS NULL THEN 1 ELSE 0 END AS done"
            f" FROM {table} x LEFT JOIN {table} p ON p.n = x.above WHERE x.done = 0"
            f" UNION ALL SELECT n, above, done FROM {table} WHERE done = 1"
        )
        engine.run(f"DROP TABLE {table}")
        turn += 1
        if not engine.rows(f"SELECT 1 FROM {following} WHERE done = 0 LIMIT 1"):
            engine.run(f"CREATE TABLE own AS SELECT n, above FROM {following}")
            engine.run(f"DROP TABLE {following}")
            return


def _mark(engine: Engine, edges: list[Edge]) -> None:
    """Random marks for edges and places, by which requests of the same course are told: 62 bits, always the same."""
    rng = random.Random(_SEED)

    def marks(count: int) -> Columns:
        return {
            name: np.array([rng.randrange(1, MARK) for _ in range(count)], dtype=np.int64)
            for name in ("mark_1", "mark_2")
        }

    engine.run(
        "CREATE TABLE edge (edge BIGINT, endpoint BIGINT, target BIGINT, later BIGINT, mark_1 BIGINT, mark_2 BIGINT)"
    )
    engine.run("CREATE TABLE place (place BIGINT, mark_1 BIGINT, mark_2 BIGINT)")
    numbers = {
        "edge": np.arange(len(edges), dtype=np.int64),
        "endpoint": np.array([e.endpoint for e in edges], dtype=np.int64),
        "target": np.array([e.target for e in edges], dtype=np.int64),
        "later": np.array([e.later for e in edges], dtype=np.int64),
    }
    engine.insert("edge", numbers | marks(len(edges)))
    engine.insert("place", {"place": np.arange(1, MOST_STEPS + 1, dtype=np.int64)} | marks(MOST_STEPS))
