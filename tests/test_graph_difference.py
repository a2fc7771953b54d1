"""Two graphs of the same app side by side."""

from __future__ import annotations

import pytest

from ditto.artifacts.graph import Edge, EdgeKind, Endpoint, Graph, Service, ServiceKind
from ditto.artifacts.graph_difference import LoneEdge, compare_graphs, plain_endpoint


def graph(per_request: float = 2.0, target: str = "GET /item/{id}", kind: EdgeKind = EdgeKind.CALL) -> Graph:
    """Two services and one edge."""
    services = [
        Service(name="a", kind=ServiceKind.SERVICE, observed=True, endpoints=[Endpoint(name="GET /", requests=100)]),
        Service(name="b", kind=ServiceKind.SERVICE, observed=True, endpoints=[Endpoint(name=target, requests=200)]),
    ]
    edge = Edge(
        caller="a", to="b", endpoint="GET /", target=target, kind=kind, calls=round(100 * per_request),
        calls_per_request=per_request, probability=1.0, repeats=per_request, order=0,
    )  # fmt: skip
    return Graph(services=services, edges=[edge], traces=100, spans=300)


@pytest.mark.parametrize("name", ["/item/{id}", "/item/:number", "/item/<int:n>", "/item/17", "/item/*"])
def test_names_of_parameters_do_not_count(name: str) -> None:
    assert plain_endpoint(f"GET {name}") == "GET /item/{}"
    assert plain_endpoint(f"GET {name}/tags") == "GET /item/{}/tags"


def test_what_is_no_parameter_stays() -> None:
    assert plain_endpoint("GET /items/new:draft") == "GET /items/new:draft"
    assert plain_endpoint("HGETALL") == "HGETALL"


def test_the_same_graph_does_not_differ() -> None:
    found = compare_graphs(graph(), graph(target="GET /item/:id"))
    assert found.same_shape()
    assert found.worst == 0.0
    assert found.calls[0].same_kind and found.calls[0].same_order


def test_calls_per_request_are_compared() -> None:
    found = compare_graphs(graph(2.1), graph(2.0, kind=EdgeKind.ASYNC))
    assert found.same_shape()
    assert found.worst == pytest.approx(0.05)
    assert not found.calls[0].same_kind


def test_what_only_one_has_is_named() -> None:
    extra = graph(target="GET /price")
    more = extra.model_copy(
        update={"services": [*extra.services, Service(name="c", kind=ServiceKind.CACHE, observed=False, endpoints=[])]}
    )
    found = compare_graphs(graph(), more)
    assert not found.same_shape(0.5)
    assert found.services_only_in_other == ["c"] and found.services_only_in_one == []
    assert found.edges_only_in_one == [LoneEdge(("a", "GET /", "b", "GET /item/{}"), 200, 1.0)]
    assert found.edges_only_in_other == [LoneEdge(("a", "GET /", "b", "GET /price"), 200, 1.0)]


def test_an_edge_of_few_calls_may_be_passed_over() -> None:
    stray = graph().edges[0].model_copy(update={"endpoint": "GET /b", "calls": 1, "calls_per_request": 1.0})
    caller = graph().services[0]
    both = [*caller.endpoints, Endpoint(name="GET /b", requests=1)]
    services = [caller.model_copy(update={"endpoints": both}), graph().services[1]]
    found = compare_graphs(
        graph().model_copy(update={"services": services, "edges": [graph().edges[0], stray]}), graph()
    )
    assert not found.same_shape()
    assert found.same_shape(0.01) and not found.same_shape(0.001)
