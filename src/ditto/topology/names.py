"""What shapes stand for: services with their kinds, endpoints, hosts.  Shapes are few beside spans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ditto.artifacts.graph import MOST_ENDPOINTS, MOST_NAME, MOST_SERVICES, ServiceKind
from ditto.errors import BadInputError
from ditto.topology.engine import Columns
from ditto.topology.rows import CLIENT, CONSUMER, NONE, PRODUCER, UNKNOWN_SERVICE, Shape

OTHER = "(other)"
UNNAMED = "(unnamed)"
_CACHES = {"redis", "memcached", "memcache", "valkey", "hazelcast", "aerospike", "dragonfly", "ehcache"}
_QUEUES = {
    "kafka", "rabbitmq", "activemq", "nats", "pulsar", "rocketmq", "sqs", "aws_sqs", "aws_sns", "servicebus",
    "eventhubs", "gcp_pubsub", "jms", "mqtt",
}  # fmt: skip
_DATABASES = {
    "postgres", "postgresql", "mysql", "mariadb", "mssql", "oracle", "sqlite", "cassandra", "mongodb", "mongo",
    "dynamodb", "elasticsearch", "opensearch", "cockroachdb", "clickhouse", "couchdb",
    "couchbase", "neo4j", "hbase", "influxdb",
}  # fmt: skip
_IDS = re.compile(
    r"(?<=[/:=])(?:\d+|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{4,27}|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{16,})"
    r"(?=$|[/?&#:. ])"
)


@dataclass
class Names:
    """The numbers that rows of the shape table hold, told back as names.

    Attributes:
        services: name, kind and whether it makes spans, by number.
        endpoints: service number and name, by number.
        folded: spans whose endpoint is `OTHER`.
    """

    services: list[tuple[str, ServiceKind, bool]] = field(default_factory=list)
    endpoints: list[tuple[int, str]] = field(default_factory=list)
    folded: int = 0


def kind_of_peer(name: str, system: str, messaging: bool) -> ServiceKind:
    """The kind of a service that only its clients name, from the system they tell or, without one, from its name."""
    if messaging:
        return ServiceKind.QUEUE
    words = {system.lower()} if system else set(re.split(r"[^a-z0-9_]+", name.lower()))
    for kind, known in (
        (ServiceKind.CACHE, _CACHES),
        (ServiceKind.QUEUE, _QUEUES),
        (ServiceKind.DATABASE, _DATABASES),
    ):
        if words & known:
            return kind
    return ServiceKind.DATABASE if system else ServiceKind.EXTERNAL


def endpoint_of(name: str) -> str:
    """A span's name as an endpoint: numbers and identifiers in paths are one endpoint."""
    if not name:
        return UNNAMED
    return _IDS.sub("{id}", name) if "/" in name else name


def tables(shapes: Sequence[Shape], spans: Sequence[int]) -> tuple[Names, Columns]:
    """Number services, endpoints and hosts.

    Args:
        shapes: by number.
        spans: how many spans each shape has.

    Returns:
        The names, and the columns of the table ``shape``.

    Raises:
        BadInputError: more services than a graph may have.
    """
    names = Names()
    observed = {shape[0] for shape in shapes}
    services: dict[tuple[str, ServiceKind, bool], int] = {}
    kept = _kept(shapes, spans, observed)
    endpoints: dict[tuple[int, str], int] = {}
    hosts: dict[str, int] = {}

    def service(name: str, kind: ServiceKind, own: bool) -> int:
        number = services.setdefault((name, kind, own), len(services))
        if number == len(names.services):
            names.services.append((name, kind, own))
        return number

    def endpoint(number: int, key: tuple[str, bool], name: str, count: int) -> int:
        if name not in kept[key]:
            names.folded += count
            name = OTHER
        place = endpoints.setdefault((number, name), len(endpoints))
        if place == len(names.endpoints):
            names.endpoints.append((number, name))
        return place

    rows = []
    for number, (shape, count) in enumerate(zip(shapes, spans, strict=True)):
        own = service(shape[0], ServiceKind.SERVICE, True)
        leaf = queue = NONE
        peer = _peer(shape, observed)
        if peer is not None:
            name, kind, target, seen = peer
            other = service(name, kind, seen)
            place = endpoint(other, (name, seen), target, 0)
            leaf = place if shape[3] in (CLIENT, PRODUCER) else NONE
            queue = place if kind is ServiceKind.QUEUE and name != UNKNOWN_SERVICE else NONE
        rows.append(
            (
                number, own, hosts.setdefault(shape[1], len(hosts)),
                endpoint(own, (shape[0], True), endpoint_of(shape[2]), count), leaf, shape[3], queue,
            )
        )  # fmt: skip
    if len(names.services) > MOST_SERVICES:
        raise BadInputError(
            f"the traces name {len(names.services)} services, more than {MOST_SERVICES}",
            "service.name must not differ from request to request; give the traces of one app",
        )
    _distinct(names)
    table = np.array(rows, dtype=np.int64).reshape(-1, 7)
    columns = ("shape", "service", "host", "endpoint", "leaf", "kind", "queue")
    return names, {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(columns)}


def _peer(shape: Shape, observed: set[str]) -> tuple[str, ServiceKind, str, bool] | None:
    """The other side that a calling or a consuming span names: its name, kind, endpoint, and whether it makes spans."""
    own, _, operation, kind, system, peer, messaging, destination = shape
    if kind in (PRODUCER, CONSUMER):
        if not (messaging or destination):
            # Sent to a queue that is not named; if the span that took it is there, the edge leads to that.
            return (UNKNOWN_SERVICE, ServiceKind.QUEUE, endpoint_of(operation), False) if kind == PRODUCER else None
        return (messaging or "queue", ServiceKind.QUEUE, destination or endpoint_of(operation), False)
    if kind != CLIENT:
        return None
    if peer in observed and not system and peer != own:
        return (peer, ServiceKind.SERVICE, endpoint_of(operation), True)
    # A service is no data store of its own: some clients give their own name as that of what they call.
    name = peer if peer and peer != own else system
    if system and peer in observed:
        name = system
    if not name:
        return (UNKNOWN_SERVICE, ServiceKind.EXTERNAL, endpoint_of(operation), False)
    return (name, kind_of_peer(name, system, False), endpoint_of(operation), False)


def _kept(shapes: Sequence[Shape], spans: Sequence[int], observed: set[str]) -> dict[tuple[str, bool], set[str]]:
    """The endpoints of each service that keep their name: all, or the most frequent where they are too many."""
    counts: dict[tuple[str, bool], Counter[str]] = {}
    for shape, count in zip(shapes, spans, strict=True):
        counts.setdefault((shape[0], True), Counter())[endpoint_of(shape[2])] += count
        peer = _peer(shape, observed)
        if peer is not None:
            counts.setdefault((peer[0], peer[3]), Counter())[peer[2]] += count
    most = MOST_ENDPOINTS - 1
    return {
        key: {name for name, _ in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]}
        if len(counter) > MOST_ENDPOINTS
        else set(counter)
        for key, counter in counts.items()
    }


def _distinct(names: Names) -> None:
    """Services of one name that differ in kind, or in whether they make spans, get different names."""
    taken = {name for name, _, seen in names.services if seen}
    for number, (name, kind, seen) in enumerate(names.services):
        if seen:
            continue
        chosen, turn = name, 1
        while chosen in taken:
            mark = kind.value if turn == 1 else f"{kind.value} {turn}"
            chosen, turn = f"{name[: MOST_NAME - 24]} ({mark})", turn + 1
        names.services[number] = (chosen, kind, seen)
        taken.add(chosen)
