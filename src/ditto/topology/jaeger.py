"""The JSON of Jaeger's query API, ``{"data": [trace, ...]}`` or one trace, → rows."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from ditto.topology.documents import converted, decode, items, member, text_of, whole
from ditto.topology.otlp import endpoint_name
from ditto.topology.rows import (
    DB,
    DESTINATION,
    FOLLOWS,
    KIND,
    MESSAGING,
    METHOD,
    PEER,
    ROUTE,
    SLOTS,
    WANTED,
    Rows,
    Shape,
    store_of,
)  # fmt: skip

_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_HOSTS = ("hostname", "host.name", "ip", "k8s.pod.name", "service.instance.id")


class _Tag(msgspec.Struct, gc=False):
    key: str = ""
    value: str | int | float | bool | None = None


class _Process(msgspec.Struct, gc=False):
    serviceName: str = ""
    tags: list[_Tag] | None = None


class _Reference(msgspec.Struct, gc=False):
    refType: str = "CHILD_OF"
    traceID: str = ""
    spanID: str = ""


class _Span(msgspec.Struct, gc=False):
    traceID: str = ""
    spanID: str = ""
    operationName: str = ""
    references: list[_Reference] | None = None
    parentSpanID: str | None = None
    startTime: int | float | str | None = None
    duration: int | float | str | None = None
    tags: list[_Tag] | None = None
    processID: str | None = None
    process: _Process | None = None


class _Trace(msgspec.Struct, gc=False):
    spans: list[_Span] | None = None
    processes: dict[str, _Process] | None = None


class _Answer(msgspec.Struct, gc=False):
    data: list[_Trace] | _Trace | None = None
    spans: list[_Span] | None = None
    processes: dict[str, _Process] | None = None


@functools.cache
def _decoder() -> msgspec.json.Decoder[_Answer]:
    return msgspec.json.Decoder(_Answer)


def add_json(text: bytes, rows: Rows) -> None:
    """Add the spans of an answer of the query API, or of one trace of it."""
    decode(text, _decoder(), _use, _salvage, rows)


def _use(answer: _Answer, rows: Rows) -> None:
    traces = answer.data if isinstance(answer.data, list) else [answer.data] if answer.data else []
    for trace in [*traces, _Trace(answer.spans, answer.processes)]:
        processes = trace.processes or {}
        for span in trace.spans or ():
            _add(span, processes, rows)


def _salvage(value: Any, rows: Rows) -> None:
    data = member(value, "data")
    traces = data if isinstance(data, list) else [data if isinstance(data, dict) else value]
    for trace in traces:
        found = member(trace, "processes")
        processes = {}
        for name, item in (found if isinstance(found, dict) else {}).items():
            process = converted(item, _Process, rows)
            if process is not None:
                processes[name] = process
        for item in items(member(trace, "spans"), rows):
            span = converted(item, _Span, rows)
            if span is not None:
                _add(span, processes, rows)


def _add(span: _Span, processes: dict[str, _Process], rows: Rows) -> None:
    values: list[str | None] = [None] * SLOTS
    rank = [9] * SLOTS
    store = ""
    for tag in span.tags or ():
        wanted = WANTED.get(tag.key)
        if wanted is None:
            store = store or store_of(tag.key)
            continue
        slot, place = wanted
        if place < rank[slot]:
            values[slot], rank[slot] = text_of(tag.value), place
    start, duration = whole(span.startTime), whole(span.duration)
    if (start is None and span.startTime is not None) or (duration is None and span.duration is not None):
        rows.lost.wrong_types += 1
        return
    if not (span.traceID.strip("0") and span.spanID.strip("0")):
        rows.lost.no_id += 1
        return
    process = processes.get(span.processID or "") or span.process or _Process()
    host = next((text_of(t.value) for name in _HOSTS for t in process.tags or () if t.key == name), process.serviceName)
    kind = _KINDS.get((values[KIND] or "").lower(), 0)
    parent, flags = span.parentSpanID or "", 0
    links = []
    # A span may name several; the parent is the first of its trace it is a child of, or else that it follows from.
    own = [r for r in span.references or () if r.spanID and r.traceID.lstrip("0") == span.traceID.lstrip("0")]
    chosen = next((r for r in own if r.refType == "CHILD_OF"), own[0] if own else None)
    if chosen is not None:
        parent, flags = chosen.spanID, FOLLOWS if chosen.refType == "FOLLOWS_FROM" else 0
    for reference in span.references or ():
        if reference is not chosen and reference.traceID and reference.spanID:
            links.append((reference.traceID, reference.spanID))
    key: Shape = (
        process.serviceName, host, endpoint_name(span.operationName, values[METHOD], values[ROUTE], kind), kind,
        values[DB] or store, values[PEER] or "", values[MESSAGING] or "", values[DESTINATION] or "",
    )  # fmt: skip
    rows.add(
        span.traceID, span.spanID, parent, key, start * 1000 if start else None,
        None if duration is None else duration * 1000, values, flags, links,
    )  # fmt: skip
