"""The graph of an app without tracing: against what its services counted, and against their traces."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ditto import paths
from ditto.artifacts.app import load_app
from ditto.artifacts.graph import Graph, ServiceKind
from ditto.artifacts.graph_difference import compare_graphs, plain_endpoint
from ditto.errors import BadInputError
from ditto.host.progress import SilentProgress
from ditto.observe.app_phase import AppOptions, record_app
from ditto.topology import graph_of_traces
from ditto.topology.recorded import graph_of_recording
from recorded_parts import write_tiers

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("nginx", "redis-server", "memcached", "gunicorn", "wrk", "cc", "pg_lsclusters")
MODULES = "import fastapi, grpc, psycopg2, uvicorn"
needs_shop = pytest.mark.skipif(
    any(shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin") is None for name in PROGRAMS)
    or subprocess.run(["/usr/bin/python3", "-c", MODULES], capture_output=True, check=False).returncode != 0,
    reason="the examples need what the Makefile's TEST_PACKAGES name",
)

Counts = dict[tuple[str, str, str, str], float]


def calls_of(graph: Graph) -> Counts:
    """Calls per request by caller, its endpoint, called service, its endpoint.

    What the load's client cut off when it was ended may leave a call or two by themselves.
    """
    found: Counts = {}
    asked = {(s.name, endpoint.name): endpoint.requests for s in graph.services for endpoint in s.endpoints}
    for edge in graph.edges:
        if edge.calls < 0.001 * asked[edge.to, edge.target]:
            continue
        key = (edge.caller, plain_endpoint(edge.endpoint), edge.to, plain_endpoint(edge.target))
        found[key] = found.get(key, 0.0) + edge.calls_per_request
    return found


def without(graph: Graph, *names: str) -> Graph:
    """A graph without some services."""
    services = [service for service in graph.services if service.name not in names]
    edges = [edge for edge in graph.edges if not {edge.caller, edge.to} & set(names)]
    return graph.model_copy(update={"services": services, "edges": edges})


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("collector", [pytest.param("ebpf", marks=pytest.mark.ebpf), "ptrace"])
def test_calls_from_worker_threads_belong_to_their_requests(tmp_path: Path, collector: str, local: bool) -> None:
    if not paths.ptrace_binary().is_file():
        pytest.skip(f"{paths.ptrace_binary()} is not built (make native)")
    spec = write_tiers(tmp_path, requests=60, local=local)
    # A worker that takes its next call without waiting for it may be taken to work for another request for once; for
    # more where the machine is busy, so that it is recorded again.
    for attempt in range(3):
        folder = tmp_path / f"recording{attempt}"
        made = record_app(spec, folder, AppOptions(collector, apart=True), SilentProgress())
        graph = graph_of_recording(folder, SilentProgress())
        edges = {edge.target: edge for edge in sorted(graph.edges, key=lambda edge: edge.calls)}
        if edges["GET /x"].calls >= 55 and edges["GET /y"].calls >= 55:
            break
    assert made.lost == 0
    assert [service.name for service in made.services] == ["front", "left", "right"]
    assert graph.source == "recording"
    both = ("front", "GET /both/{}")
    truth = {(*both, "left", "GET /x"): 1.0, (*both, "right", "GET /y"): 1.0, (*both, "left", "GET /z"): 1.0}
    assert calls_of(graph) == {key: pytest.approx(value) for key, value in truth.items()}
    assert edges["GET /x"].calls >= 55 and edges["GET /y"].calls >= 55
    assert edges["GET /z"].order > max(edges["GET /x"].order, edges["GET /y"].order)
    front = next(service for service in graph.services if service.name == "front")
    asked = {endpoint.name: endpoint.requests for endpoint in front.endpoints}
    assert asked["GET /both/{id}"] == asked["GET /one"] == 60, "of both runs of the client"
    load = graph_of_recording(folder, SilentProgress(), load_only=True)
    asked = {e.name: e.requests for service in load.services if service.name == "front" for e in service.endpoints}
    assert asked["GET /both/{id}"] == asked["GET /one"] == 30, "of the second"
    assert calls_of(load) == {key: pytest.approx(value) for key, value in truth.items()}
    assert graph.dropped.unfinished == graph.dropped.torn_connections == 0


@pytest.mark.ebpf
@needs_shop
def test_the_shop_is_seen_as_its_services_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, traces = tmp_path / "counts", tmp_path / "traces"
    for folder, name in ((counts, "SHOP_COUNTS"), (traces, "SHOP_TRACES")):
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    spec = load_app(ROOT / "examples" / "shop" / "app.toml")
    record_app(spec, tmp_path / "recording", AppOptions("ebpf", seconds=3.0), SilentProgress())
    graph = graph_of_recording(tmp_path / "recording", SilentProgress())
    assert {service.name for service in graph.services} == {
        "web", "gateway", "catalog", "cart", "price", "reviews", "orders", "worker", "db", "store", "queue", "cache",
        "similar",
    }  # fmt: skip
    kinds = {service.name: service.kind for service in graph.services}
    assert kinds["store"] is kinds["cache"] is ServiceKind.CACHE and kinds["db"] is ServiceKind.DATABASE
    truth: Counts = {}
    for path in counts.glob("*.json"):
        counted = json.loads(path.read_text())
        for endpoint, service, target, calls in counted["calls"]:
            key = (path.stem, plain_endpoint(endpoint), service, plain_endpoint(target))
            truth[key] = calls / counted["requests"][endpoint]
    # Nobody counts for nginx, which sends on what it gets; the worker gets no requests.
    proxied = set(json.loads((counts / "gateway.json").read_text())["requests"])
    truth |= {("web", plain_endpoint(e), "gateway", plain_endpoint(e)): 1.0 for e in proxied}
    jobs = truth.pop(("worker", "job", "db", "UPDATE"))
    assert jobs == 1.0 and len(truth) == 30
    found = calls_of(without(graph, "worker"))
    assert found.keys() == truth.keys()
    assert found == {key: pytest.approx(value, rel=0.02) for key, value in truth.items()}
    usual = sorted(graph.edges, key=lambda edge: edge.calls)  # a few calls may be edges of another kind: the most count
    product = {edge.to: edge for edge in usual if (edge.caller, edge.endpoint) == ("gateway", "GET /product/{id}")}
    assert product["catalog"].parallel_group == product["price"].parallel_group is not None
    assert product["reviews"].order > product["price"].order
    assert product["reviews"].probability == pytest.approx(1 / 4, abs=0.02)
    # Jobs go to the worker through the queue: as many as are put there are fetched and written down.
    calls = Counter({(edge.caller, edge.to, edge.target): 0 for edge in graph.edges})
    for edge in graph.edges:
        calls[edge.caller, edge.to, edge.target] += edge.calls
    brought = calls["orders", "queue", "LPUSH"]
    assert calls["worker", "queue", "BRPOP"] == pytest.approx(brought, rel=0.02, abs=1)
    assert calls["worker", "db", "UPDATE"] == pytest.approx(brought, rel=0.02, abs=1)
    assert graph.dropped.lost_records == graph.dropped.torn_connections == 0

    traced = graph_of_traces([traces], SilentProgress(), memory_mb=500)
    assert any(edge.caller == "orders" and edge.to == "worker" for edge in traced.edges)
    difference = compare_graphs(without(graph, "worker", "web"), without(traced, "worker"))
    assert difference.same_shape(0.002), (difference.edges_only_in_one, difference.edges_only_in_other)
    assert difference.worst < 0.02


@pytest.mark.ebpf
@needs_shop
def test_four_tiers_are_seen_as_the_workers_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    monkeypatch.setenv("WEB3_COUNTS", str(counts))
    spec = load_app(ROOT / "examples" / "web3" / "app.toml")
    record_app(spec, tmp_path / "recording", AppOptions("ebpf", seconds=2.0), SilentProgress())
    graph = graph_of_recording(tmp_path / "recording", SilentProgress())
    requests: Counter[str] = Counter()
    calls: Counter[tuple[str, str, str]] = Counter()
    workers = list(counts.glob("app-*.json"))
    assert len(workers) == 2
    for path in workers:
        counted = json.loads(path.read_text())
        requests.update(counted["requests"])
        for endpoint, service, target, count in counted["calls"]:
            calls[endpoint, service, target] += count
    truth = {
        ("app", plain_endpoint(endpoint), service, target): count / requests[endpoint]
        for (endpoint, service, target), count in calls.items()
    }
    truth |= {("web", plain_endpoint(endpoint), "app", plain_endpoint(endpoint)): 1.0 for endpoint in requests}
    assert len(truth) == 9
    found = calls_of(graph)
    assert found.keys() == truth.keys()
    assert found == {key: pytest.approx(value, rel=0.02) for key, value in truth.items()}
    assert graph.dropped.lost_records == graph.dropped.torn_connections == 0


def test_a_recording_without_requests_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"app\.json"):
        graph_of_recording(tmp_path, SilentProgress())
