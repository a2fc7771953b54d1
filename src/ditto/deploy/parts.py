"""What is deployed: one service, its size, and the load that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from ditto.artifacts.fidelity import Fidelity
from ditto.artifacts.profile import ServiceProfile

PORT = 8080
"""That a clone listens on in its container, as its Dockerfile says."""
_LEAST_MEMORY = 8 << 20
_ROOM = 1.25
"""Memory asked for, over what was resident: page tables, sockets and the kernel's own are charged too."""


@dataclass(frozen=True)
class Deployed:
    """One clone as it is deployed.

    Attributes:
        name: of the service; neutral.
        port: on the host, or of the Kubernetes service.
        cpus: cores it used under the load it was observed under; None where that is not known.
        memory_bytes: to ask for.
        connections: of the load.
        rate: requests a second of the load: half of what was observed.
        replicas: of the Kubernetes deployment.
        registry: put before image names, with its slash.
    """

    name: str
    port: int
    cpus: float | None
    memory_bytes: int
    connections: int
    rate: float
    replicas: int = 1
    registry: str = ""

    @property
    def image(self) -> str:
        """Of the clone."""
        return f"{self.registry}ditto-{self.name}:1"

    @property
    def load_image(self) -> str:
        """Of the load generator with its requests."""
        return f"{self.registry}ditto-{self.name}-load:1"


def deployed(
    service: ServiceProfile, fidelity: Fidelity | None, port: int, replicas: int = 1, registry: str = ""
) -> Deployed:
    """Size a clone by what it was seen to use: its certificate where there is one, its profile elsewhere."""
    cpus = _clone_figure(fidelity, "cpu.cores_busy")
    memory = _clone_figure(fidelity, "memory.resident_bytes") or float(service.resident_bytes)
    rate = _clone_figure(fidelity, "throughput.saturation") or service.load.requests_per_second
    return Deployed(
        name=service.name,
        port=port,
        cpus=cpus,
        memory_bytes=max(_LEAST_MEMORY, int(memory * _ROOM)),
        connections=max(1, service.load.connections),
        rate=max(1.0, rate / 2),
        replicas=replicas,
        registry=registry if not registry or registry.endswith("/") else f"{registry}/",
    )


def _clone_figure(fidelity: Fidelity | None, metric: str) -> float | None:
    record = fidelity.record(metric) if fidelity is not None else None
    return None if record is None else record.clone
