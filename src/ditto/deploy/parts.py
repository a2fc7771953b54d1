"""What is deployed: the clones, whom each calls, their sizes, and the load that goes with the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ditto.artifacts.application import Application, Tier
from ditto.artifacts.fidelity import Fidelity
from ditto.artifacts.profile import ServiceProfile
from ditto.errors import BadInputError
from ditto.host.clones import downstream_options

PORT = 8080
"""That a clone listens on in its container, as its Dockerfile says."""
_LEAST_MEMORY = 8 << 20
_ROOM = 1.25
"""Memory asked for, over what was resident: page tables, sockets and the kernel's own are charged too."""


@dataclass(frozen=True)
class Deployed:
    """One clone as it is deployed.

    Attributes:
        name: of the service, a host name; neutral.
        port: on the host, or of the Kubernetes service; None where no client of the application calls it.
        cpus: cores it used under the load it was observed under; None where that is not known.
        memory_bytes: to ask for.
        connections: of the load.
        rate: requests a second of the load: half of what was observed.
        replicas: of the Kubernetes deployment.
        registry: put before image names, with its slash.
        options: of its clone, which tell where those are that it calls.
        after: those that are started first, as it calls them.
        datagrams: its requests need no connection.
    """

    name: str
    port: int | None
    cpus: float | None
    memory_bytes: int
    connections: int
    rate: float
    replicas: int = 1
    registry: str = ""
    options: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    datagrams: bool = False

    @property
    def image(self) -> str:
        """Of the clone."""
        return f"{self.registry}ditto-{self.name}:1"

    @property
    def load_name(self) -> str:
        """Of what loads it."""
        return f"{self.name}-load"

    @property
    def load_image(self) -> str:
        """Of the load generator with its requests."""
        return f"{self.registry}ditto-{self.load_name}:1"

    @property
    def protocol(self) -> str:
        """Of its port."""
        return "UDP" if self.datagrams else "TCP"


@dataclass(frozen=True)
class Used:
    """What a clone was seen to use at saturation; None what is not known.

    Attributes:
        cpus: cores.
        memory_bytes: resident.
        rate: requests a second.
    """

    cpus: float | None = None
    memory_bytes: float | None = None
    rate: float | None = None


def used(fidelity: Fidelity | None) -> Used:
    """What the clone of one service used, by its certificate."""
    return Used(
        _clone_figure(fidelity, "cpu.cores_busy"),
        _clone_figure(fidelity, "memory.resident_bytes"),
        _clone_figure(fidelity, "throughput.saturation"),
    )


def used_by_tier(fidelity: Fidelity | None, tier: str) -> Used:
    """What a tier used, by the certificate of its application: rates are of the entry."""
    rate = _clone_figure(fidelity, "throughput.saturation")
    cpu_ns = _clone_figure(fidelity, f"tier.{tier}.cpu.per_request")
    cpus = None if rate is None or cpu_ns is None else rate * cpu_ns / 1e9
    return Used(cpus, _clone_figure(fidelity, f"tier.{tier}.memory.resident_bytes"), rate)


def deployed(
    service: ServiceProfile,
    use: Used,
    port: int | None,
    replicas: int = 1,
    registry: str = "",
    name: str | None = None,
    options: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Deployed:
    """Size a clone by what it was seen to use; by its profile where that is not known."""
    memory = use.memory_bytes or float(service.resident_bytes)
    rate = use.rate or service.load.requests_per_second
    return Deployed(
        name=name or service.name,
        port=port,
        cpus=use.cpus,
        memory_bytes=max(_LEAST_MEMORY, int(memory * _ROOM)),
        connections=max(1, service.load.connections),
        rate=max(1.0, rate / 2),
        replicas=replicas,
        registry=registry if not registry or registry.endswith("/") else f"{registry}/",
        options=tuple(options),
        after=tuple(after),
        datagrams=service.listener.datagrams,
    )


def deployed_tiers(
    application: Application,
    services: Mapping[str, ServiceProfile],
    fidelity: Fidelity | None,
    port: int,
    replicas: Mapping[str, int],
    registry: str = "",
) -> list[Deployed]:
    """The tiers of an application, the entry first: each finds those that it calls by name, at `PORT`.

    Args:
        services: the profile of each tier.
        fidelity: the certificate of the application.
        port: that clients use.
        replicas: of tiers by name, one without.

    Raises:
        BadInputError: it has replicas of a tier that is none, or a name that the load needs.
    """
    names = _host_names(application)
    for name in replicas:
        if name not in names:
            raise BadInputError(f"replicas of {name}, which is no tier", f"one of {', '.join(names)}")
    order = [tier.name for tier in application.start_order()]

    def part(tier: Tier) -> Deployed:
        before = order[: order.index(tier.name)]
        called = dict.fromkeys(name for name in tier.calls if name is not None)
        entry = tier.name == application.entry.name
        return deployed(
            services[tier.name],
            used_by_tier(fidelity, tier.name),
            port if entry else None,
            replicas.get(tier.name, 1),
            registry,
            names[tier.name],
            downstream_options(tier, lambda called: f"{names[called]}:{PORT}"),
            # Those in a ring of calls start without each other: a clone asks again for a name that is not there yet.
            [names[name] for name in called if name in before],
        )

    parts = [part(tier) for tier in application.tiers]
    if parts[0].load_name in names.values():
        raise BadInputError(f"a tier is named {parts[0].load_name}, as is what loads the entry", "name it otherwise")
    return parts


def _host_names(application: Application) -> dict[str, str]:
    """Names of services by those of tiers: they begin with a letter."""
    prefix = "tier-" if any(tier.name[0].isdigit() for tier in application.tiers) else ""
    return {tier.name: prefix + tier.name for tier in application.tiers}


def _clone_figure(fidelity: Fidelity | None, metric: str) -> float | None:
    record = fidelity.record(metric) if fidelity is not None else None
    return None if record is None else record.clone
