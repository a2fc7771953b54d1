"""Exchanges → spans: one for the call where its client is recorded, one for the request where its server is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ditto.artifacts.app_recording import AppRecording
from ditto.artifacts.graph import ServiceKind
from ditto.topology.recorded import framing
from ditto.topology.recorded.connections import Exchange
from ditto.topology.rows import CLIENT, ERROR, FOLLOWS, INTERNAL, NONE, PACK, SERVER, Rows, Shape

BACKGROUND = "(background)"
"""The endpoint of a service that its calls for no request belong to."""
_SYSTEMS = {
    framing.RESP: "redis",
    framing.MEMCACHED: "memcached",
    framing.PGSQL: "postgresql",
    framing.MYSQL: "mysql",
}
_KINDS = {
    framing.RESP: ServiceKind.CACHE,
    framing.MEMCACHED: ServiceKind.CACHE,
    framing.PGSQL: ServiceKind.DATABASE,
    framing.MYSQL: ServiceKind.DATABASE,
}


@dataclass
class Made:
    """Spans, and what they could not tell.

    Attributes:
        unfinished: requests without a reply when the recording ended, and the calls made for them.
        guessed: calls that several requests could have made.
        kinds: services that are stores by the protocol they are spoken to.
    """

    rows: Rows = field(default_factory=Rows)
    unfinished: int = 0
    guessed: int = 0
    kinds: dict[str, ServiceKind] = field(default_factory=dict)


def spans_of(exchanges: list[Exchange], services: dict[int, str], app: AppRecording, since_ns: int = 0) -> Made:
    """The spans of all exchanges that were answered; ``services`` by process.

    Args:
        since_ns: what was made for requests that came before this time is left out.
    """
    made = Made()
    used = _finished(exchanges)
    made.unfinished = len(exchanges) - len(used)
    used = [exchange for exchange in used if _began(_root(exchange)) >= since_ns]
    made.guessed = sum(exchange.guessed for exchange in used)
    numbers = {exchange: number for number, exchange in enumerate(used)}
    ports = {service.port: service.name for service in app.services}
    ports |= {beside.port: beside.name for beside in app.beside}
    protocols: dict[str, Counter[str]] = {}
    for exchange, number in numbers.items():
        caller, server = services.get(exchange.caller, ""), services.get(exchange.server, "")
        protocols.setdefault(server, Counter())[exchange.connection.protocol] += 1
        trace = numbers.get(_root(exchange), number) + 1
        parent = _parent_span(exchange, numbers, caller, trace, number, made.rows)
        begins = _began(exchange)
        if caller:
            peer = server or _peer(exchange, ports)
            system = "" if server else _SYSTEMS.get(exchange.connection.protocol, "")
            shape: Shape = (caller, "", exchange.name, CLIENT, system, peer, "", "")
            _add(
                made.rows,
                trace,
                _id(number, 1),
                parent,
                shape,
                begins,
                exchange.returned or exchange.answered,
                exchange,
            )
            parent = _id(number, 1)
        if server:
            shape = (server, "", exchange.name, SERVER, "", "", "", "")
            starts = exchange.arrived or begins
            _add(
                made.rows,
                trace,
                _id(number, 2),
                parent,
                shape,
                starts,
                exchange.answered or exchange.returned,
                exchange,
            )
    made.kinds = {
        name: kind
        for name, counts in protocols.items()
        if name and (kind := _KINDS.get(counts.most_common(1)[0][0])) is not None
    }
    return made


def _finished(exchanges: list[Exchange]) -> list[Exchange]:
    """Those that were answered and were made for requests that were; a caller always comes before what it calls."""
    known: set[Exchange] = set()
    for exchange in exchanges:
        if exchange.replied and (exchange.parent is None or exchange.parent in known):
            known.add(exchange)
    return [exchange for exchange in exchanges if exchange in known]


def _id(number: int, part: int) -> int:
    return number * 4 + part


def _began(exchange: Exchange) -> int:
    return exchange.called or exchange.arrived


def _root(exchange: Exchange) -> Exchange:
    while exchange.parent is not None:
        exchange = exchange.parent
    return exchange


def _parent_span(
    exchange: Exchange, numbers: dict[Exchange, int], caller: str, trace: int, number: int, rows: Rows
) -> int:
    """The span above; for a call that no request caused, one that stands for what the service does by itself."""
    if exchange.parent is not None and exchange.parent in numbers:
        return _id(numbers[exchange.parent], 2)
    if not caller:
        return NONE
    shape: Shape = (caller, "", BACKGROUND, INTERNAL, "", "", "", "")
    _add(rows, trace, _id(number, 3), NONE, shape, exchange.called, exchange.returned or exchange.called, None)
    return _id(number, 3)


def _peer(exchange: Exchange, ports: dict[int, str]) -> str:
    connection = exchange.connection
    if connection.ends is None:
        return connection.place.rpartition("/")[2] or "(unknown)"
    return ports.get(connection.ends[3], f"port {connection.place}")


def _add(
    rows: Rows, trace: int, span: int, parent: int, shape: Shape, begins: int, ends: int, exchange: Exchange | None
) -> None:
    number = rows.shapes.setdefault(shape, len(rows.shapes))
    flags = 0
    request = reply = NONE
    if exchange is not None:
        flags = ERROR if exchange.failed else 0
        request, reply = exchange.asked_bytes, exchange.reply_bytes
        if _not_waited_for(exchange) and shape[3] == SERVER:
            flags |= FOLLOWS
    rows.packed.append(
        PACK(trace, span, parent, number, max(1, begins), max(0, ends - begins), request, reply, flags, 0)
    )


def _not_waited_for(exchange: Exchange) -> bool:
    """Whether the request that made the call was answered before the call was."""
    parent = exchange.parent
    return parent is not None and 0 < parent.answered < (exchange.returned or exchange.answered)
