"""``ditto topology`` on the traces in ``data/traces``, with what was counted by hand, and on small made ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto.artifacts.graph import Edge, EdgeKind, Graph, ServiceKind, load_graph
from ditto.errors import BadInputError, FormatVersionError
from ditto.host.progress import SilentProgress
from ditto.topology import engine, graph_on
from ditto.topology.engine import Columns
from ditto.topology.names import endpoint_of, kind_of_peer
from ditto.topology.rows import NONE
from trace_parts import TRACES, calls_of, graph_of, otlp, span, write, zipkin

SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1


def edge_of(graph: Graph, caller: str, to: str, target: str | None = None) -> Edge:
    found = [e for e in graph.edges if (e.caller, e.to) == (caller, to) and target in (None, e.target)]
    assert len(found) == 1, found
    return found[0]


def kinds_of(graph: Graph) -> dict[str, str]:
    return {service.name: service.kind.value for service in graph.services}


def branches_of(graph: Graph, service: str, endpoint: str) -> list[tuple[float, list[list[tuple[str, float, float]]]]]:
    """Share and steps, each step as (called service, calls at a time, rounds)."""
    for found in graph.services:
        for candidate in found.endpoints:
            if (found.name, candidate.name) == (service, endpoint):
                return [
                    (b.probability, [[(graph.edges[c.edge].to, c.count, s.rounds) for c in s.calls] for s in b.steps])
                    for b in candidate.branches
                ]
    raise AssertionError(f"no {service} {endpoint}")


# The real traces.  What is expected was read off the files: which spans are SERVER, CLIENT, PRODUCER or CONSUMER, which
# share an id, and who is whose parent.


def test_otlp_trace_of_one_service() -> None:
    """Four internal spans of one service, main > info > two times ohboy.do: one request, no calls."""
    graph = graph_of(TRACES / "otlp/multi.json")
    assert (graph.traces, graph.spans, graph.complete_traces, graph.coverage) == (1, 4, 1, 1.0)
    assert kinds_of(graph) == {"example-trace": "service"} and graph.edges == []
    (main,) = graph.services[0].endpoints
    assert (main.name, main.requests) == ("main", 1)
    assert main.latency is not None and main.latency.p50_us == pytest.approx(176321.958)


def test_jaeger_trace() -> None:
    """OrderVehicle > client HTTP GET of the load generator > server BikeHandler > FindNearestVehicle."""
    graph = graph_of(TRACES / "jaeger/testTrace.json")
    assert (graph.traces, graph.spans) == (1, 4)
    assert kinds_of(graph) == {"load-generator": "service", "ride-sharing-app": "service"}
    (edge,) = graph.edges
    assert (edge.endpoint, edge.target, edge.calls) == ("OrderVehicle", "BikeHandler", 1)
    assert edge.latency is not None and edge.latency.p50_us == 968334.0, "as the client saw it"


def test_zipkin_trace_with_skew() -> None:
    """Client post of servicea (4074202 to 4168741) shares its id with serviceb's server half, which says 4008761."""
    graph = graph_of(TRACES / "zipkin/skew.json")
    assert (graph.spans, graph.repaired.clock_skew) == (4, 1)
    assert calls_of(graph) == {("servicea", "serviceb"): 1}
    assert edge_of(graph, "servicea", "serviceb").kind is EdgeKind.CALL


def test_zipkin_trace_of_yelp() -> None:
    """16 spans; three server halves of the calls to spectre, mobile_api and the proxy; a root, routing.

    Clients alone: blt once, memcache 2 + 1 + 2, mysql twice.  yelp-main makes two spans under the proxy, a cache read
    and a transaction, so these begin requests of its own, as does the client post under routing.  "unknown" is what
    the trace calls a proxy between routing and yelp_main/api_proxy.
    """
    graph = graph_of(TRACES / "zipkin/yelp.json")
    assert (graph.traces, graph.spans, graph.complete_traces) == (1, 16, 1)
    assert kinds_of(graph) == {
        "blt": "external", "memcache": "cache", "mysql": "database", "mobile_api": "service", "routing": "service",
        "spectre": "service", "unknown": "service", "yelp-main": "service", "yelp_main/api_proxy": "service",
    }  # fmt: skip
    assert calls_of(graph) == {
        ("routing", "unknown"): 1, ("unknown", "yelp_main/api_proxy"): 1, ("routing", "yelp-main"): 1,
        ("yelp-main", "mobile_api"): 1, ("yelp_main/api_proxy", "yelp-main"): 2, ("yelp-main", "memcache"): 3,
        ("yelp-main", "mysql"): 2, ("mobile_api", "memcache"): 2, ("mobile_api", "spectre"): 1,
        ("mobile_api", "blt"): 1,
    }  # fmt: skip
    # By their starts: 269732 begin, 270438 get, 272125 get_multi, 272604 commit; none overlap.
    assert branches_of(graph, "yelp-main", "txn: user_get_basic_and_scout_info") == [
        (1.0, [[("mysql", 1, 1)], [("memcache", 1, 1)], [("memcache", 1, 1)], [("mysql", 1, 1)]])
    ]
    # 239000 to 364000 and 287000 to 343000: at the same time.
    assert (
        edge_of(graph, "routing", "unknown").parallel_group
        == edge_of(graph, "routing", "yelp-main").parallel_group
        == 0
    )


def test_zipkin_trace_of_ascend() -> None:
    """Two calls one after the other; content-service then calls what no span names."""
    graph = graph_of(TRACES / "zipkin/ascend.json")
    assert calls_of(graph) == {
        ("mobile-gateway", "auth-service"): 1, ("mobile-gateway", "content-service"): 1,
        ("content-service", "(unknown)"): 1,
    }  # fmt: skip
    assert edge_of(graph, "mobile-gateway", "auth-service").order == 0
    assert edge_of(graph, "mobile-gateway", "content-service").order == 1
    assert graph.repaired.no_peer == 1


def test_zipkin_trace_with_messages() -> None:
    """Nine sends, three to each topic; seven polls of "messages", one of which is the root, its send in no file.

    So "messages" has 3 + 1 requests; four polls are servicea's, three serviceb's.  All sends are under the first poll.
    """
    graph = graph_of(TRACES / "zipkin/messaging-kafka.json")
    assert graph.spans == 28
    assert kinds_of(graph) == {"kafka": "queue", "servicea": "service", "serviceb": "service"}
    topics = {e.name: e.requests for s in graph.services if s.name == "kafka" for e in s.endpoints}
    assert topics == {"messages": 4, "central.messages": 3, "command-messages": 3}
    assert all(edge.kind is EdgeKind.ASYNC for edge in graph.edges)
    for topic in topics:
        edge = edge_of(graph, "servicea", "kafka", topic)
        assert (edge.endpoint, edge.calls, edge.calls_per_request) == ("poll", 3, 0.75)
        assert (edge.probability, edge.repeats) == (0.25, 3.0)
    assert [share for share, _ in branches_of(graph, "servicea", "poll")] == [0.75, 0.25]
    assert branches_of(graph, "servicea", "poll")[0][1] == [], "three of the polls send nothing"
    assert edge_of(graph, "kafka", "servicea").calls_per_request == 1.0
    assert edge_of(graph, "kafka", "serviceb").calls_per_request == 0.75


def test_zipkin_trace_of_a_login() -> None:
    """175 spans of one trace.

    Counted by kind and shared id: a server half under a client half of the same id is one call; a server span without
    is called by its parent's service (redirects of the browser).  Clients alone: 50 of auth with Cassandra's tags,
    though they name "auth" as the other side, and four that name nobody.
    """
    graph = graph_of(TRACES / "zipkin/smartthings-oauth-authorization.json")
    assert (graph.traces, graph.spans, graph.complete_traces) == (1, 175, 1)
    assert kinds_of(graph) == {
        "(unknown)": "external", "account": "service", "auth": "service", "bouncer": "service", "cassandra": "database",
        "datamgmt": "service", "dove": "service", "paperboy": "service", "pusher": "service", "stlogin": "service",
    }  # fmt: skip
    assert calls_of(graph) == SMARTTHINGS
    assert (graph.repaired.no_peer, graph.dropped.duplicates) == (4, 0)


SMARTTHINGS = {
    # Server halves under a client half of the same id.
    ("datamgmt", "auth"): 20, ("datamgmt", "account"): 5, ("datamgmt", "bouncer"): 1, ("datamgmt", "stlogin"): 2,
    ("bouncer", "pusher"): 5, ("pusher", "paperboy"): 1, ("pusher", "dove"): 1, ("stlogin", "auth"): 2,
    # 8 such, and 17 server spans that hang on another server span of datamgmt.
    ("datamgmt", "datamgmt"): 25,
    # Server spans on server spans: 10, and two on ids whose serving half is stlogin's and whose calling half is not.
    ("stlogin", "stlogin"): 12, ("stlogin", "datamgmt"): 2,
    # Client spans that nothing hangs on.
    ("auth", "cassandra"): 50, ("datamgmt", "(unknown)"): 1, ("pusher", "(unknown)"): 1, ("auth", "(unknown)"): 1,
    ("stlogin", "(unknown)"): 1,
}  # fmt: skip


# Made traces.


def test_order_branches_repeats_and_groups(tmp_path: Path) -> None:
    """Ten requests: a, then b and c at once; in three of them also d five times one after the other."""
    spans: dict[str, list[dict[str, Any]]] = {"front": [], "a": [], "b": [], "c": []}
    for trace in range(1, 11):
        spans["front"].append(span(1, None, "GET /", SERVER, 0, 1000, trace))
        spans["front"].append(span(2, 1, "work", INTERNAL, 1, 999, trace))
        calls = [("a", 10, 100), ("b", 100, 300), ("c", 150, 250)]
        for number, (name, start, end) in enumerate(calls):
            spans["front"].append(span(10 + number, 2, "call", CLIENT, start, end, trace))
            spans[name].append(span(20 + number, 10 + number, f"serve {name}", SERVER, start + 1, end - 1, trace))
        if trace <= 3:
            for turn in range(5):
                at = 400 + 20 * turn
                more = {"db.system.name": "postgresql", "server.address": "db-host"}
                spans["front"].append(span(30 + turn, 2, "SELECT d", CLIENT, at, at + 20, trace, **more))
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(otlp(name, found)) + "\n" for name, found in spans.items()))
    graph = graph_of(path)
    assert (graph.traces, graph.complete_traces) == (10, 10)
    usual = [[("a", 1, 1)], [("b", 1, 1), ("c", 1, 1)]]
    assert branches_of(graph, "front", "GET /") == [(0.7, usual), (0.3, [*usual, [("db-host", 1, 5)]])]
    queries = edge_of(graph, "front", "db-host")
    assert (queries.calls_per_request, queries.probability, queries.repeats) == (1.5, 0.3, 5.0)
    assert kinds_of(graph)["db-host"] == "database"
    orders = {name: edge_of(graph, "front", name).order for name in ("a", "b", "c", "db-host")}
    assert orders == {"a": 0, "b": 1, "c": 1, "db-host": 2}
    groups = {name: edge_of(graph, "front", name).parallel_group for name in orders}
    assert groups == {"a": None, "b": 0, "c": 0, "db-host": None}


def test_courses_beyond_the_listed_are_a_share(tmp_path: Path) -> None:
    """Twenty requests that each call another service: sixteen courses are listed, a fifth of the requests is told."""
    spans = []
    for n in range(1, 21):
        spans += [
            span(1, None, "GET /", SERVER, 0, 9, n),
            span(2, 1, "c", CLIENT, 1, 2, n, **{"peer.service": f"p{n}"}),
        ]
    graph = graph_of(write(tmp_path / "t.json", otlp("front", spans)))
    (front,) = [s for s in graph.services if s.name == "front"]
    assert (len(front.endpoints[0].branches), front.endpoints[0].other_branches) == (16, 0.2)


def test_one_target_many_times_at_once(tmp_path: Path) -> None:
    spans = [span(1, None, "GET /", SERVER, 0, 100)]
    spans += [span(10 + i, 1, "GET", CLIENT, 10 + i, 90, **{"peer.service": "shard"}) for i in range(4)]
    graph = graph_of(write(tmp_path / "t.json", otlp("front", spans)))
    assert branches_of(graph, "front", "GET /") == [(1.0, [[("shard", 4, 1)]])]
    assert edge_of(graph, "front", "shard").parallel_group == 0


def test_skew_keeps_the_order_of_calls_to_one_host(tmp_path: Path) -> None:
    """Servers without client spans, on a clock 10 s behind; three calls in a row keep their order."""
    spans = [zipkin(1, None, "a", "get", "SERVER", 20_000_000, 100)]
    for number, (service, start) in enumerate((("b", 10), ("c", 40), ("b", 70))):
        behind = 10_000_000 if service == "b" else 0
        spans.append(zipkin(2 + number, 1, service, "x", "SERVER", 20_000_000 + start - behind, 20))
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert graph.repaired.clock_skew == 2
    assert branches_of(graph, "a", "get") == [(1.0, [[("b", 1, 1)], [("c", 1, 1)], [("b", 1, 1)]])]


def test_links_and_follows_from_are_asynchronous(tmp_path: Path) -> None:
    """A worker's trace links to the span that handed the work on; a Jaeger span follows from another."""
    giver = otlp("front", [span(1, None, "POST /", SERVER, 0, 100), span(2, 1, "hand on", INTERNAL, 10, 20)])
    link = [{"traceId": f"{1:032x}", "spanId": f"{2:016x}"}]
    taker = otlp("worker", [span(9, None, "job", INTERNAL, 500, 900, trace=2, links=link)])
    graph = graph_of(write(tmp_path / "a.json", giver), write(tmp_path / "b.json", taker))
    assert (edge_of(graph, "front", "worker").kind, graph.traces) == (EdgeKind.ASYNC, 2)
    trace = {
        "traceID": "a1",
        "processes": {"p": {"serviceName": "x", "tags": []}, "q": {"serviceName": "y", "tags": []}},
        "spans": [
            {"traceID": "a1", "spanID": "1", "operationName": "one", "startTime": 1, "duration": 100, "processID": "p"},
            {"traceID": "a1", "spanID": "2", "operationName": "two", "startTime": 50, "duration": 10, "processID": "q",
             "references": [{"refType": "FOLLOWS_FROM", "traceID": "a1", "spanID": "1"}]},
        ],
    }  # fmt: skip
    graph = graph_of(write(tmp_path / "j.json", {"data": [trace]}))
    assert edge_of(graph, "x", "y").kind is EdgeKind.ASYNC


def test_a_producer_without_a_broker_leads_to_its_consumer(tmp_path: Path) -> None:
    sent = otlp("front", [span(1, None, "POST /", SERVER, 0, 100), span(2, 1, "send", PRODUCER, 10, 20)])
    taken = otlp("worker", [span(3, 2, "process", CONSUMER, 300, 400)])
    graph = graph_of(write(tmp_path / "a.json", sent), write(tmp_path / "b.json", taken))
    assert [(e.caller, e.to, e.kind) for e in graph.edges] == [("front", "worker", EdgeKind.ASYNC)]


def test_sizes_errors_and_latency(tmp_path: Path) -> None:
    served = [
        span(
            n,
            None,
            "GET /",
            SERVER,
            0,
            100 * n,
            n,
            **{"http.request.body.size": str(n), "http.response.body.size": "50"},
        )
        for n in range(1, 101)
    ]
    served[0]["status"] = {"code": 2}
    graph = graph_of(write(tmp_path / "t.json", otlp("front", served)))
    (endpoint,) = graph.services[0].endpoints
    assert (endpoint.requests, endpoint.errors, endpoint.request_bytes, endpoint.response_bytes) == (100, 1, 50.5, 50.0)
    latency = endpoint.latency
    assert latency is not None and latency.mean_us == 5050.0
    assert latency.p50_us == pytest.approx(5000, rel=0.025) and latency.p99_us == pytest.approx(9900, rel=0.025)


# Repairs.


def test_missing_parents_duplicates_and_cycles_are_counted(tmp_path: Path) -> None:
    spans = [
        zipkin(1, None, "a", "get", "SERVER", 0, 100), zipkin(1, None, "a", "get", "SERVER", 0, 100),
        zipkin(2, 1, "b", "x", "SERVER", 10, 20), zipkin(3, 99, "c", "y", "SERVER", 10, 20),
        zipkin(4, 5, "d", "z", "SERVER", 10, 20), zipkin(5, 6, "e", "z", "SERVER", 10, 20),
        zipkin(6, 4, "f", "z", "SERVER", 10, 20), zipkin(7, 4, "g", "below", "SERVER", 12, 3),
        zipkin(8, 8, "h", "own parent", "SERVER", 0, 1),
    ]  # fmt: skip
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert (graph.spans, graph.dropped.duplicates) == (8, 1)
    assert (graph.repaired.missing_parents, graph.repaired.cycles) == (1, 4)
    assert calls_of(graph) == {("a", "b"): 1, ("d", "g"): 1}
    assert graph.complete_traces == 0 and graph.coverage == 0.0


def test_a_chain_of_ten_thousand_spans(tmp_path: Path) -> None:
    """Pointers are doubled, so depth costs rounds by its logarithm; a cycle as long is found as well."""
    chain = [span(1, None, "root", SERVER, 0, 10_000_000)]
    chain += [span(n, n - 1, "deeper", INTERNAL, n, 9_999_000 - n) for n in range(2, 10_001)]
    chain.append(span(10_001, 10_000, "SELECT", CLIENT, 10_001, 10_002, **{"db.system": "mysql"}))
    graph = graph_of(write(tmp_path / "t.json", otlp("a", chain)))
    assert calls_of(graph) == {("a", "mysql"): 1} and graph.repaired.cycles == 0
    chain[0]["parentSpanId"] = chain[-1]["spanId"]
    graph = graph_of(write(tmp_path / "t.json", otlp("a", chain)))
    assert (graph.repaired.cycles, graph.spans) == (10_001, 10_001)


def test_spans_without_time_or_service(tmp_path: Path) -> None:
    spans = [zipkin(1, None, "a", "get", "SERVER", 0, 100), zipkin(2, 1, "", "x", "SERVER", 10, 20)]
    del spans[1]["timestamp"]
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert (graph.repaired.no_time, graph.repaired.no_service) == (1, 1)
    assert calls_of(graph) == {("a", "(unknown)"): 1}


def test_too_many_endpoints_of_a_service_are_folded(tmp_path: Path) -> None:
    spans = [
        zipkin(n, None, "a", f"name {'x' * (n % 700)} end", "SERVER", n, 1) | {"traceId": f"{n:x}"}
        for n in range(1, 2101)
    ]
    graph = graph_of(write(tmp_path / "t.json", spans))
    (service,) = graph.services
    assert len(service.endpoints) == 512 and graph.repaired.other_endpoints > 0
    assert sum(endpoint.requests for endpoint in service.endpoints) == 2100


def test_names() -> None:
    assert endpoint_of("GET /users/123/orders") == "GET /users/{id}/orders"
    assert endpoint_of("GET /f/0123456789abcdef0123") == "GET /f/{id}"
    assert endpoint_of("GET /facade/v2") == "GET /facade/v2" and endpoint_of("") == "(unnamed)"
    assert kind_of_peer("users", "redis", False) is ServiceKind.CACHE
    assert kind_of_peer("my-mysql-01", "", False) is ServiceKind.DATABASE
    assert kind_of_peer("billing", "", False) is ServiceKind.EXTERNAL
    assert kind_of_peer("x", "newdb", False) is ServiceKind.DATABASE


def test_only_few_rows_are_kept_in_memory_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "UNCOMMITTED_ROWS", 5)
    made = engine.DuckEngine(tmp_path, 100)
    made.run("CREATE TABLE t (a BIGINT)")
    for count, transactions in ((4, 1), (8, 2)):  # one for all statements, then one for each
        made.insert("t", {"a": np.arange(4)})
        assert made.rows("SELECT COUNT(*) FROM t") == [(count,)]
        assert len({made.rows("SELECT txid_current()")[0][0] for _ in range(2)}) == transactions
    made.close()


# The same queries on another engine.


class SqliteEngine:
    """The standard library's engine, which shares nothing with DuckDB but SQL."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    def insert(self, table: str, columns: Columns) -> None:
        rows = zip(*([None if v == NONE else v for v in column.tolist()] for column in columns.values()), strict=True)
        self._connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", rows)

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()


@pytest.mark.parametrize("name", sorted(str(p.relative_to(TRACES)) for p in TRACES.rglob("*.json")))
def test_queries_give_the_same_on_sqlite(name: str) -> None:
    other = graph_on(SqliteEngine(), [TRACES / name], SilentProgress())
    assert other.to_json() == graph_of(TRACES / name).to_json()


def _random_trace(parents: list[int], kinds: list[int], starts: list[int]) -> list[dict[str, Any]]:
    names = (None, None, "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    return [
        zipkin(n + 1, parent or None, f"s{(n + parent) % 4}", f"n{n % 3}", names[kind], start, 1 + start % 50)
        for n, (parent, kind, start) in enumerate(zip(parents, kinds, starts, strict=True))
    ]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_trace_gives_a_graph_that_is_the_same_on_both_engines(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 25))
    whole = st.lists(st.integers(0, 30), min_size=count, max_size=count)
    kinds = st.lists(st.integers(0, 5), min_size=count, max_size=count)
    spans = _random_trace(data.draw(whole), data.draw(kinds), data.draw(whole))
    path = write(tmp_path_factory.mktemp("t") / "t.json", spans)
    graph = graph_of(path)
    assert graph.spans == count and graph.spans + graph.dropped.duplicates == len(spans)
    assert graph_on(SqliteEngine(), [path], SilentProgress()).to_json() == graph.to_json()
    for edge in graph.edges:
        assert edge.calls_per_request == pytest.approx(edge.probability * edge.repeats, rel=1e-6)


# The file.


def test_a_graph_file_is_read_back_and_checked(tmp_path: Path) -> None:
    graph = graph_of(TRACES / "zipkin/yelp.json")
    path = tmp_path / "graph.json"
    graph.save(path)
    assert load_graph(path) == graph
    value = json.loads(path.read_text())
    assert {"services", "edges", "traces", "spans", "repaired", "dropped", "version"} <= set(value)
    assert {"from", "to", "endpoint", "calls_per_request", "order", "kind"} <= set(value["edges"][0])
    write(path, value | {"version": 99})
    with pytest.raises(FormatVersionError, match="99"):
        load_graph(path)
    for place, wrong in (("to", "nobody"), ("probability", 1.5), ("calls", -1), ("from", "x" * 300), ("kind", "maybe")):
        broken = json.loads(json.dumps(value))
        broken["edges"][0][place] = wrong
        write(path, broken)
        with pytest.raises(BadInputError, match=r"graph\.json"):
            load_graph(path)
    path.write_text("[" * 100_000)
    with pytest.raises(BadInputError, match="not JSON"):
        load_graph(path)
