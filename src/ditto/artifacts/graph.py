"""The dependency graph of an app: services, their endpoints, and who calls whom in what order and how often.

The file is JSON and may come from a stranger: every field is bounded, everything unknown is refused, and every edge is
checked to join endpoints that exist.  Nothing here depends on how a graph was recovered.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from ditto.artifacts.base import Model, Probability
from ditto.artifacts.files import write_atomic
from ditto.artifacts.reading import read_model

FORMAT_VERSION = 1
MOST_SERVICES = 20_000
MOST_ENDPOINTS = 512
MOST_EDGES = 500_000
# The sixteen most frequent courses, and that of requests which call nothing.
MOST_BRANCHES = 17
MOST_STEPS = 64
MOST_NAME = 256
MOST_BYTES = 1 << 30

Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
Number = Annotated[int, Field(ge=0, le=1 << 53)]
Mean = Annotated[float, Field(ge=0.0, le=1e15)]


class ServiceKind(StrEnum):
    """What a service is.  Databases, caches and queues are usually seen by their clients alone."""

    SERVICE = "service"
    DATABASE = "database"
    CACHE = "cache"
    QUEUE = "queue"
    EXTERNAL = "external"


class EdgeKind(StrEnum):
    """Whether the caller waits for the answer."""

    CALL = "call"
    ASYNC = "async"


class Latency(Model):
    """Durations in microseconds; quantiles to within 2 %, exact for few spans of different lengths."""

    spans: Number
    mean_us: Mean
    p50_us: Mean
    p95_us: Mean
    p99_us: Mean


class StepCall(Model):
    """Calls of one edge inside a step: ``count`` of them, on average, at the same time in each round of the step."""

    edge: Annotated[int, Field(ge=0, lt=MOST_EDGES)]
    count: Mean


class Step(Model):
    """Calls that overlap in time, and how many rounds of them follow each other on average."""

    rounds: Mean
    calls: Annotated[list[StepCall], Field(min_length=1, max_length=4096)]


class Branch(Model):
    """One course that requests of an endpoint take: the share of requests, and its steps in order."""

    probability: Probability
    requests: Number
    steps: Annotated[list[Step], Field(max_length=MOST_STEPS)]


class Endpoint(Model):
    """One kind of request of a service.

    Attributes:
        name: as the traces have it; ``(other)`` stands for the rare ones of a service with too many names.
        requests: how many were seen.
        errors: how many of them failed.
        latency: durations of the requests; none where only callers were seen.
        request_bytes: mean size of the requests that told it.
        response_bytes: mean size of the replies that told it.
        branches: the courses requests take, the most frequent first; one without steps is that of requests that call
            nothing.  None for an endpoint that never calls.
        other_branches: share of the requests that took a course which is not listed.
    """

    name: Name
    requests: Number
    errors: Number = 0
    latency: Latency | None = None
    request_bytes: Mean | None = None
    response_bytes: Mean | None = None
    branches: Annotated[list[Branch], Field(max_length=MOST_BRANCHES)] = []
    other_branches: Probability = 0.0


class Service(Model):
    """One service; ``observed`` if it made spans itself, and was not only named by its clients."""

    name: Name
    kind: ServiceKind
    observed: bool
    endpoints: Annotated[list[Endpoint], Field(max_length=MOST_ENDPOINTS)]


class Edge(Model):
    """Calls from an endpoint of one service to an endpoint of another (or the same).

    Attributes:
        caller: name of the calling service (``from`` in the file).
        to: name of the called service.
        endpoint: the caller's endpoint, whose requests make the calls.
        target: the called endpoint.
        kind: whether the caller waits.
        calls: how many were seen.
        calls_per_request: per request of ``endpoint``.
        probability: share of the requests of ``endpoint`` that make at least one.
        repeats: calls per request that makes any.
        order: place among the calls of ``endpoint``, from 0, by where they begin on average.
        parallel_group: edges of ``endpoint`` with the same number are under way at the same time; an edge alone in its
            group overlaps itself; none: one after the other.
        errors: how many failed.
        latency: as the caller saw it where it measured, else the called side's.
    """

    model_config = ConfigDict(populate_by_name=True)

    caller: Annotated[str, Field(alias="from", min_length=1, max_length=MOST_NAME)]
    to: Name
    endpoint: Name
    target: Name
    kind: EdgeKind
    calls: Number
    calls_per_request: Mean
    probability: Probability
    repeats: Mean
    order: Annotated[int, Field(ge=0, le=MOST_EDGES)]
    parallel_group: Annotated[int, Field(ge=0, le=MOST_EDGES)] | None = None
    errors: Number = 0
    latency: Latency | None = None
    request_bytes: Mean | None = None
    response_bytes: Mean | None = None


class Repaired(Model):
    """Spans that were used after a repair, by what was done.

    Attributes:
        clock_skew: moved into the span that called them.
        missing_parents: their parent is in no file; taken as the first of their part of the trace.
        cycles: were their own ancestors; their link to the parent was cut.
        no_time: had no start; given that of their parent.
        negative_durations: ended before they began; taken as of no duration.
        no_service: did not tell their service; counted to ``(unknown)``.
        no_peer: called something that they do not name and that made no span; counted to ``(unknown)``.
        long_names: had a name or attribute that was shortened.
        other_endpoints: had one of the rarer names of a service with too many; counted to ``(other)``.
        guessed_parents: calls, without tracing, that several requests could have made; given to the likeliest.
    """

    clock_skew: Number = 0
    missing_parents: Number = 0
    cycles: Number = 0
    no_time: Number = 0
    negative_durations: Number = 0
    no_service: Number = 0
    no_peer: Number = 0
    long_names: Number = 0
    other_endpoints: Number = 0
    guessed_parents: Number = 0


class Dropped(Model):
    """What was left out, by why.

    Attributes:
        duplicates: spans reported more than once.
        no_id: spans without a usable trace or span id.
        wrong_types: spans, or parts that hold spans, whose fields have the wrong type.
        broken_documents: lines or messages that are no JSON or protobuf, cut off or too large.
        broken_files: files of which at least the rest could not be read.
        lost_records: system calls that the recorder lost.
        unfinished: requests without a reply when the recording ended.
        torn_connections: connections whose ends did not see the same bytes.
    """

    duplicates: Number = 0
    no_id: Number = 0
    wrong_types: Number = 0
    broken_documents: Number = 0
    broken_files: Number = 0
    lost_records: Number = 0
    unfinished: Number = 0
    torn_connections: Number = 0


class Graph(Model):
    """The graph.

    Attributes:
        version: of the format.
        source: how it was recovered.
        services: by name.
        edges: by caller, its endpoint, and order.
        traces: distinct traces.
        spans: spans used, repaired ones included.
        seconds: from the first start of a span to the last.
        complete_traces: traces of one tree with every parent present.
        coverage: share of the spans read, broken ones included, that hang on a root through parents that are present.
        repaired: counts of repairs.
        dropped: counts of what was left out.
    """

    version: int = FORMAT_VERSION
    source: Annotated[str, Field(max_length=32)] = "traces"
    services: Annotated[list[Service], Field(max_length=MOST_SERVICES)]
    edges: Annotated[list[Edge], Field(max_length=MOST_EDGES)]
    traces: Number
    spans: Number
    seconds: Mean = 0.0
    complete_traces: Number = 0
    coverage: Probability = 1.0
    repaired: Repaired = Repaired()
    dropped: Dropped = Dropped()

    @model_validator(mode="after")
    def _consistent(self) -> Graph:
        known: dict[str, set[str]] = {}
        for service in self.services:
            if service.name in known:
                raise ValueError(f"two services are named {service.name[:80]!r}")
            known[service.name] = {endpoint.name for endpoint in service.endpoints}
            if len(known[service.name]) != len(service.endpoints):
                raise ValueError(f"two endpoints of {service.name[:80]!r} have the same name")
        for edge in self.edges:
            for name, wanted in ((edge.caller, edge.endpoint), (edge.to, edge.target)):
                if wanted not in known.get(name, ()):
                    raise ValueError(f"an edge names {name[:80]!r} {wanted[:80]!r}, which is no endpoint of a service")
        for service in self.services:
            for endpoint in service.endpoints:
                for branch in endpoint.branches:
                    for step in branch.steps:
                        for call in step.calls:
                            edge_of = self.edges[call.edge] if call.edge < len(self.edges) else None
                            if edge_of is None or (edge_of.caller, edge_of.endpoint) != (service.name, endpoint.name):
                                raise ValueError(
                                    f"a branch of {service.name[:80]!r} makes the call of another endpoint"
                                )
        return self

    def to_json(self) -> str:
        """The file's text; the same graph always gives the same text."""
        return self.model_dump_json(by_alias=True, indent=1, exclude_none=True) + "\n"

    def save(self, path: Path) -> None:
        """Write it in one step."""
        write_atomic(path, self.to_json())


def load_graph(path: Path) -> Graph:
    """Read and check a graph file.

    Raises:
        BadInputError: missing, no JSON, or not a graph; the first wrong field is named.
        FormatVersionError: another version of the format.
    """
    remedy = "make it with: ditto topology TRACES... -o FILE"
    return read_model(path, Graph, FORMAT_VERSION, remedy, key="version", most_bytes=MOST_BYTES)
