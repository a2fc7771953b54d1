"""Results of database requests, as the protocols' own modules read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Column:
    """A column of a result.

    Attributes:
        name_bytes: of its name.
        type_id, type_bytes, flags: as the server tells them, in the protocol's own numbers.
        binary: its values are not text.
        sizes: of each value seen; -1 for none (NULL).
    """

    name_bytes: int
    type_id: int
    type_bytes: int
    binary: bool = False
    flags: int = 0
    sizes: list[int] = field(default_factory=list)


@dataclass
class Result:
    """What a statement gave: rows (how many, of which columns), nothing, or an error.

    ``statement`` is the number that a server gave to one that it has prepared, ``known`` that the columns were left out
    since the client knows them from then.
    """

    kind: Literal["rows", "done", "failed"] = "done"
    columns: list[Column] = field(default_factory=list)
    rows: int = 0
    statement: int = 0
    known: bool = False
