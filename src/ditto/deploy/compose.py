"""A compose file (the Compose Specification) for a clone and its load."""

from __future__ import annotations

from typing import Any

from ditto.deploy.parts import PORT, Deployed


def compose_file(part: Deployed) -> dict[str, Any]:
    """The file as plain values; the load has a profile of its own, so that it runs only when asked for."""
    resources: dict[str, str] = {"memory": f"{part.memory_bytes >> 20}M"}
    if part.cpus is not None:
        resources["cpus"] = f"{part.cpus:.2f}"
    clone = {
        "build": {"context": f"./{part.name}"},
        "image": part.image,
        "ports": [f"127.0.0.1:{part.port}:{PORT}"],
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ulimits": {"nofile": {"soft": 65536, "hard": 65536}},
        "healthcheck": {
            "test": ["CMD", "/clone", "--check", "--host", "127.0.0.1", "--port", str(PORT)],
            "interval": "5s",
            "timeout": "3s",
            "retries": 3,
        },
        "deploy": {"resources": {"reservations": resources}},
    }
    load = {
        "profiles": ["load"],
        "build": {"context": "./load"},
        "image": part.load_image,
        "depends_on": {part.name: {"condition": "service_healthy"}},
        "command": load_arguments(part, part.name, PORT),
        "cap_drop": ["ALL"],
    }
    return {"services": {part.name: clone, f"{part.name}-load": load}}


def load_arguments(part: Deployed, host: str, port: int, seconds: float = 60.0) -> list[str]:
    """Arguments of the load generator in its container: Poisson arrivals at the part's rate."""
    return [
        "--host", host, "--port", str(port), "--connections", str(part.connections), "--arrivals", "poisson",
        "--rate", f"{part.rate:.1f}", "--seconds", f"{seconds:g}", "--warmup", "5",
    ]  # fmt: skip
