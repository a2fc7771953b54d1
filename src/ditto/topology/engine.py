"""The engines that the queries run on: all they need is to run SQL, to take columns of whole numbers and to give rows.

DuckDB is the one in use: it keeps its tables in a file and works through them in blocks, on all processors, within a
bound of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto.topology.rows import NONE

Columns = dict[str, NDArray[np.int64]]


UNCOMMITTED_ROWS = 100_000
"""Rows given to a database from which on it commits each statement."""


class Engine(Protocol):
    """Somewhere that SQL runs."""

    def run(self, sql: str) -> None:
        """Run one statement."""

    def insert(self, table: str, columns: Columns) -> None:
        """Append rows to a table of BIGINT columns, given by column in the table's order; `NONE` stands for NULL."""

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of a query."""


class DuckEngine:
    """DuckDB with its tables in ``folder``."""

    def __init__(self, folder: Path, memory_mb: int) -> None:
        import duckdb

        self._connection = duckdb.connect(str(folder / "spans.duckdb"))
        settings = {
            "memory_limit": f"'{memory_mb}MB'",
            "temp_directory": f"'{str(folder / 'spill').replace(chr(39), chr(39) * 2)}'",
            "preserve_insertion_order": "false",
            "enable_external_access": "false",
        }
        for name, value in settings.items():
            self._connection.execute(f"SET {name} = {value}")
        # Each commit waits for the disk, and nothing reads the file afterwards; but what is not committed stays in
        # memory.
        self._connection.execute("BEGIN")
        self._uncommitted: int | None = 0

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    def insert(self, table: str, columns: Columns) -> None:
        names = ", ".join(f"NULLIF({name}, {NONE + 1} - 1) AS {name}" for name in columns)
        self._connection.register("incoming", columns)
        self._connection.execute(f"INSERT INTO {table} SELECT {names} FROM incoming")
        self._connection.unregister("incoming")
        if self._uncommitted is not None:
            self._uncommitted += max(map(len, columns.values()), default=0)
            if self._uncommitted > UNCOMMITTED_ROWS:
                self._connection.execute("COMMIT")
                self._uncommitted = None

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def script(name: str) -> list[str]:
    """The statements of a file of queries, without comments."""
    text = resources.files("ditto.topology").joinpath(f"queries/{name}.sql").read_text(encoding="utf-8")
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in plain.split(";") if statement.strip()]


def run_script(engine: Engine, name: str) -> None:
    """Run a file of queries."""
    for statement in script(name):
        engine.run(statement)
