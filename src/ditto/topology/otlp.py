"""OpenTelemetry's ExportTraceServiceRequest, as JSON and as protobuf, → rows.

Both give the same rows: ids are hexadecimal text in JSON and bytes in protobuf, everything else has the same names.
"""

from __future__ import annotations

import base64
import binascii
import functools
from typing import TYPE_CHECKING, Any

import msgspec

from ditto.topology.documents import AnyValue, converted, decode, items, member, text_of, whole
from ditto.topology.rows import (
    DB,
    DESTINATION,
    FAILED,
    MESSAGING,
    METHOD,
    PEER,
    RESOURCE,
    ROUTE,
    SLOTS,
    WANTED,
    Rows,
    Shape,
    store_of,
)  # fmt: skip

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue as ProtoValue

_KINDS = {
    "SPAN_KIND_UNSPECIFIED": 0, "SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5,
}  # fmt: skip
_STATUS_ERROR = (2, "STATUS_CODE_ERROR", "2")
# Lengths of ids in base64, which some writers of JSON use in place of hexadecimal digits.
_BASE64 = {24, 12}
_SLOT_OF = {key: slot for key, (slot, _) in WANTED.items()}.get


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: AnyValue | None = None


class _Link(msgspec.Struct, gc=False):
    traceId: str = ""
    spanId: str = ""


class _Status(msgspec.Struct, gc=False):
    code: int | str | None = None


class _Span(msgspec.Struct, gc=False):
    traceId: str = ""
    spanId: str = ""
    parentSpanId: str | None = None
    name: str = ""
    kind: int | str | None = None
    startTimeUnixNano: int | str | None = None
    endTimeUnixNano: int | str | None = None
    attributes: list[_Attribute] | None = None
    links: list[_Link] | None = None
    status: _Status | None = None


class _Scope(msgspec.Struct, gc=False):
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Attribute] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_Scope] | None = None
    instrumentationLibrarySpans: list[_Scope] | None = None


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] | None = None


@functools.cache
def _decoder() -> msgspec.json.Decoder[_Request]:
    return msgspec.json.Decoder(_Request)


def add_json(text: bytes, rows: Rows) -> None:
    """Add the spans of one request as JSON."""
    decode(text, _decoder(), _use, _salvage, rows)


def _use(request: _Request, rows: Rows) -> None:
    for part in request.resourceSpans or ():
        service, host = _resource(part.resource.attributes if part.resource else None)
        for scope in [*(part.scopeSpans or ()), *(part.instrumentationLibrarySpans or ())]:
            for span in scope.spans or ():
                _add(span, service, host, rows)


def _salvage(value: Any, rows: Rows) -> None:
    for part in items(member(value, "resourceSpans"), rows):
        resource = converted(member(part, "resource") or {}, _Resource, rows)
        service, host = _resource(resource.attributes if resource else None)
        scopes = items(member(part, "scopeSpans"), rows) + items(member(part, "instrumentationLibrarySpans"), rows)
        for scope in scopes:
            for item in items(member(scope, "spans"), rows):
                span = converted(item, _Span, rows)
                if span is not None:
                    _add(span, service, host, rows)


def _value(value: AnyValue | None) -> str:
    if value is None:
        return ""
    if value.stringValue is not None:
        return value.stringValue
    return text_of(next((v for v in (value.intValue, value.boolValue, value.doubleValue) if v is not None), None))


def _resource(attributes: list[_Attribute] | None) -> tuple[str, str]:
    """The service's name and its host; the service stands for the host where none is told."""
    found = ["", "", "", ""]
    for attribute in attributes or ():
        slot = RESOURCE.get(attribute.key)
        if slot is not None:
            found[slot] = _value(attribute.value)
    return found[0], found[1] or found[2] or found[3] or found[0]


def _add(span: _Span, service: str, host: str, rows: Rows) -> None:
    # The hot loop of reading: a benchmark of millions of spans spends its time here.
    values: list[str | None] = [None] * SLOTS
    if span.attributes:
        for attribute in span.attributes:
            wanted = _SLOT_OF(attribute.key)
            if wanted is not None:
                value = attribute.value
                if values[wanted] is not None:
                    values = _ranked([(a.key, _value(a.value)) for a in span.attributes])
                    break
                values[wanted] = value.stringValue if value is not None and value.stringValue else _value(value)
    kind = span.kind
    if kind.__class__ is not int:
        kind = _KINDS.get(kind, whole(kind) or 0) if isinstance(kind, str) else 0
    try:
        begin, end = int(span.startTimeUnixNano or 0), int(span.endTimeUnixNano or 0)
    except ValueError:
        rows.lost.wrong_types += 1
        return
    links = [(_id(link.traceId), _id(link.spanId)) for link in span.links] if span.links else None
    if span.status is not None and span.status.code in _STATUS_ERROR:
        values[FAILED] = "true"
    store = ""
    if kind == 3 and not values[DB]:
        store = next(filter(None, (store_of(a.key) for a in span.attributes or ())), "")
    parent = span.parentSpanId
    _row(
        rows, _id(span.traceId), _id(span.spanId), _id(parent) if parent else "", service, host, span.name,
        kind, begin, end, values, store, links,
    )  # fmt: skip


def _ranked(attributes: list[tuple[str, str]]) -> list[str | None]:
    """The values by slot where several attributes tell the same: the preferred one's."""
    values: list[str | None] = [None] * SLOTS
    rank = [9] * SLOTS
    for key, value in attributes:
        slot, place = WANTED.get(key, (FAILED, 9))
        if place < rank[slot]:
            values[slot], rank[slot] = value, place
    return values


def _id(text: str) -> str:
    if text[-1:] == "=" and len(text) in _BASE64:
        try:
            return base64.b64decode(text, validate=True).hex()
        except (binascii.Error, ValueError):
            return text
    return text


def _row(
    rows: Rows, trace: str, span: str, parent: str, service: str, host: str, name: str, kind: Any,
    begin: int, end: int, values: list[str | None], store: str, links: list[tuple[str, str]] | None,
) -> None:  # fmt: skip
    route = values[ROUTE]
    key: Shape = (
        service, host, endpoint_name(name, values[METHOD], route, kind) if route else name,
        kind if 0 <= kind <= 5 else 0,
        values[DB] or store, values[PEER] or "", values[MESSAGING] or "", values[DESTINATION] or "",
    )  # fmt: skip
    rows.add(trace, span, parent, key, begin or None, end - begin if begin and end else None, values, 0, links)


_METHODS = {"", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "HTTP"}


def endpoint_name(name: str, method: str | None, route: str | None, kind: int) -> str:
    """A span's name; with the route where a server's span is named by its method alone."""
    if kind == 2 and route and name.upper() in _METHODS:
        return f"{(method or name).upper()} {route}".strip()
    return name


def add_protobuf(message: bytes, rows: Rows) -> None:
    """Add the spans of one request as protobuf."""
    from google.protobuf.message import DecodeError

    try:
        request = _request_type().FromString(message)
    except (DecodeError, UnicodeError):
        rows.lost.broken_documents += 1
        return
    for part in request.resource_spans:
        found = ["", "", "", ""]
        for attribute in part.resource.attributes:
            place = RESOURCE.get(attribute.key)
            if place is not None:
                found[place] = _proto_value(attribute.value)
        service, host = found[0], found[1] or found[2] or found[3] or found[0]
        for scope in part.scope_spans:
            for span in scope.spans:
                _add_protobuf(span, service, host, rows)


@functools.cache
def _request_type() -> type[ExportTraceServiceRequest]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return ExportTraceServiceRequest


def _proto_value(value: ProtoValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    return text_of(getattr(value, kind)) if kind in ("int_value", "bool_value", "double_value") else ""


def _add_protobuf(span: Any, service: str, host: str, rows: Rows) -> None:
    attributes = [(a.key, _proto_value(a.value)) for a in span.attributes if a.key in WANTED]
    values = _ranked(attributes)
    store = ""
    if span.kind == 3 and not values[DB]:
        store = next(filter(None, (store_of(a.key) for a in span.attributes)), "")
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] if span.links else None
    if span.HasField("status") and span.status.code == 2:
        values[FAILED] = "true"
    _row(
        rows, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), service, host, span.name,
        span.kind, span.start_time_unix_nano, span.end_time_unix_nano, values, store, links,
    )  # fmt: skip
