"""A compose file (the Compose Specification) for clones and the load of the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto.deploy.parts import PORT, Deployed


def compose_file(parts: Sequence[Deployed]) -> dict[str, Any]:
    """The file as plain values; the load has a profile of its own, so that it runs only when asked for."""
    entry = parts[0]
    load = {
        "profiles": ["load"],
        "build": {"context": f"./{entry.load_name}"},
        "image": entry.load_image,
        "depends_on": {entry.name: {"condition": "service_healthy"}},
        "command": load_arguments(entry, entry.name, PORT),
        "cap_drop": ["ALL"],
    }
    return {"services": {part.name: _service(part) for part in parts} | {entry.load_name: load}}


def _service(part: Deployed) -> dict[str, Any]:
    resources: dict[str, str] = {"memory": f"{part.memory_bytes >> 20}M"}
    if part.cpus is not None:
        resources["cpus"] = f"{part.cpus:.2f}"
    service: dict[str, Any] = {"build": {"context": f"./{part.name}"}, "image": part.image}
    if part.options:
        service["command"] = list(part.options)
    if part.port is not None:
        service["ports"] = [f"127.0.0.1:{part.port}:{PORT}" + ("/udp" if part.datagrams else "")]
    if part.after:
        service["depends_on"] = {name: {"condition": "service_healthy"} for name in part.after}
    return service | {
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "healthcheck": {"test": ["CMD", *check_command()], "interval": "5s", "timeout": "3s", "retries": 3},
        "deploy": {"resources": {"reservations": resources}},
    }


def check_command() -> list[str]:
    """What finds out inside of a container whether its clone answers: there is no shell."""
    return ["/clone", "--check", "--host", "127.0.0.1", "--port", str(PORT)]


def load_arguments(part: Deployed, host: str, port: int, seconds: float = 60.0) -> list[str]:
    """Arguments of the load generator in its container: Poisson arrivals at the part's rate."""
    return [
        "--host", host, "--port", str(port), "--connections", str(part.connections), "--arrivals", "poisson",
        "--rate", f"{part.rate:.1f}", "--seconds", f"{seconds:g}", "--warmup", "5",
    ]  # fmt: skip
