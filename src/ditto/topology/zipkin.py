"""Zipkin's v2 JSON, a list of spans or a list of traces, → rows."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from ditto.topology.documents import converted, decode, items, text_of, whole
from ditto.topology.otlp import endpoint_name
from ditto.topology.rows import (
    DB,
    DESTINATION,
    FAILED,
    FOLLOWS,
    MESSAGING,
    METHOD,
    PEER,
    ROUTE,
    SHARED,
    SLOTS,
    WANTED,
    Rows,
    Shape,
    store_of,
)  # fmt: skip

_KINDS = {"SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}


class _Place(msgspec.Struct, gc=False):
    serviceName: str | None = None
    ipv4: str | None = None
    ipv6: str | None = None


class _Span(msgspec.Struct, gc=False):
    traceId: str
    id: str
    parentId: str | None = None
    kind: str | None = None
    name: str | None = None
    timestamp: int | float | str | None = None
    duration: int | float | str | None = None
    localEndpoint: _Place | None = None
    remoteEndpoint: _Place | None = None
    tags: dict[str, str | int | float | bool | None] | None = None
    shared: bool | None = None


@functools.cache
def _decoder() -> msgspec.json.Decoder[list[_Span]]:
    return msgspec.json.Decoder(list[_Span])


def add_json(text: bytes, rows: Rows) -> None:
    """Add the spans of a list of spans, of a list of such lists, or of one span."""
    if text.lstrip()[:1] == b"{":
        text = b"[" + text + b"]"
    decode(text, _decoder(), _use, _salvage, rows)


def _use(spans: list[_Span], rows: Rows) -> None:
    for span in spans:
        _add(span, rows)


def _salvage(value: Any, rows: Rows) -> None:
    for item in items(value, rows):
        if isinstance(item, list):
            for inner in item:
                _salvage_one(inner, rows)
        else:
            _salvage_one(item, rows)


def _salvage_one(item: Any, rows: Rows) -> None:
    if isinstance(item, dict) and not (item.get("traceId") and item.get("id")):
        rows.lost.no_id += 1
        return
    span = converted(item, _Span, rows)
    if span is not None:
        _add(span, rows)


def _add(span: _Span, rows: Rows) -> None:
    values: list[str | None] = [None] * SLOTS
    rank = [9] * SLOTS
    store = ""
    for name, value in (span.tags or {}).items():
        wanted = WANTED.get(name)
        if wanted is None:
            store = store or store_of(name)
            continue
        slot, place = wanted
        if place < rank[slot]:
            values[slot], rank[slot] = text_of(value), place
    if values[FAILED] == "":
        # A tag named error marks a failure whatever it says; Zipkin's clients leave it empty when they have no message.
        values[FAILED] = "true"
    start, duration = whole(span.timestamp), whole(span.duration)
    if (start is None and span.timestamp is not None) or (duration is None and span.duration is not None):
        rows.lost.wrong_types += 1
        return
    if not (span.traceId.strip("0") and span.id.strip("0")):
        rows.lost.no_id += 1
        return
    kind = _KINDS.get((span.kind or "").upper(), 0)
    local, remote = span.localEndpoint or _Place(), span.remoteEndpoint or _Place()
    service = local.serviceName or ""
    peer = remote.serviceName or values[PEER] or remote.ipv4 or remote.ipv6 or ""
    messaging = values[MESSAGING] or (peer if kind in (4, 5) else "")
    key: Shape = (
        service, local.ipv4 or local.ipv6 or service,
        endpoint_name(span.name or "", values[METHOD], values[ROUTE], kind),
        kind, values[DB] or store, peer, messaging, values[DESTINATION] or "",
    )  # fmt: skip
    flags = (SHARED if span.shared else 0) | (FOLLOWS if kind == 5 else 0)
    rows.add(
        span.traceId, span.id, span.parentId or "", key, start * 1000 if start else None,
        None if duration is None else duration * 1000, values, flags,
    )  # fmt: skip
