"""One JSON document of any of the formats → rows.  A document of the expected types is decoded in one go; of one with
wrong types, every span that is right by itself is kept and the others are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ditto.topology.rows import Rows

T = TypeVar("T")
Salvage = Callable[[Any, Rows], None]


class AnyValue(msgspec.Struct, gc=False):
    """An attribute's value; arrays and maps are not looked at."""

    stringValue: str | None = None
    intValue: int | str | None = None
    boolValue: bool | None = None
    doubleValue: float | str | None = None


def text_of(value: object) -> str:
    """A plain attribute value as text; empty for what is none."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    return str(value) if isinstance(value, int | float) else ""


def decode(
    text: bytes, decoder: msgspec.json.Decoder[T], use: Callable[[T, Rows], None], salvage: Salvage, rows: Rows
) -> None:
    """Add the spans of one document to ``rows``."""
    try:
        value = decoder.decode(text)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        rows.lost.broken_documents += 1
        return
    else:
        use(value, rows)
        return
    try:
        loose = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        rows.lost.broken_documents += 1
    else:
        salvage(loose, rows)


def converted(value: object, kind: type[T], rows: Rows) -> T | None:
    """A part of a document as its type; none, and counted, if it has another."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        rows.lost.wrong_types += 1
        return None


def items(value: object, rows: Rows) -> list[Any]:
    """A list as it is; an empty one, and counted, for anything else but nothing."""
    if isinstance(value, list):
        return value
    if value is not None:
        rows.lost.wrong_types += 1
    return []


def member(value: object, name: str) -> Any:
    """A member of a map; none if it is no map or lacks it."""
    return value.get(name) if isinstance(value, dict) else None


def whole(value: object) -> int | None:
    """A whole number written as a number or as text; none if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value == value and abs(value) < 1 << 62:
        return int(value)
    if isinstance(value, str) and len(value) <= 24:
        try:
            return int(value)
        except ValueError:
            return None
    return None
