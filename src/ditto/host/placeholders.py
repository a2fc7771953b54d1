"""The ports of a run, and what is put in place of ``{port}``, ``{port:NAME}``, ``{requests}`` and ``{seconds}``."""

from __future__ import annotations

from collections.abc import Sequence

from ditto.artifacts.app import AppSpec, Beside, Service, Which, substitute
from ditto.host import ports


def choose_ports(spec: AppSpec, host: str, wanted: int | None, is_clone: bool) -> dict[str, int]:
    """A port for every server of an app, by its name; the entry's by the empty name too.

    Args:
        wanted: the entry's; without it a free one where the commands take ``{port}``, else its usual one.
        is_clone: a clone, which takes any port, stands in the entry's place.

    Raises:
        AppError: a port that cannot be another is in use.
    """
    asked = wanted is not None
    if wanted is None:
        movable = spec.port_can_change or (is_clone and any("{port}" in word for word in spec.load.command))
        wanted = ports.find_free(host) if movable else spec.service.port
    chosen = {"": ports.require_free(wanted, f"--port {wanted}" if asked else spec.name, host)}
    for service in spec.services:
        own = wanted if service is spec.service else _own_port(service, service.name or "", host)
        if service.name:
            chosen[service.name] = own
    for index, beside in enumerate(spec.beside):
        if beside.port is not None:
            name = beside.name or f"beside{index}"
            chosen[name] = _own_port(beside, f"{beside.name or beside.command[0]} beside {spec.name}", host)
    return chosen


def _own_port(server: Service | Beside, wanted_by: str, host: str) -> int:
    takes_any = any("{port}" in word for word in (*server.command, *server.env.values()))
    if server.port is not None and not takes_any:
        return ports.require_free(server.port, wanted_by, host)
    return ports.find_free(host)


def fill(
    spec: AppSpec,
    which: Which,
    chosen: dict[str, int],
    words: Sequence[str],
    requests: int | None = None,
    port: int | None = None,
    seconds: int | None = None,
) -> list[str]:
    """The words of a command with every placeholder replaced.

    Args:
        chosen: from `choose_ports`.
        requests: for ``{requests}``; the app's own number for this kind of run without it.
        port: for ``{port}``; the entry's without it.
        seconds: for ``{seconds}``; the app's own without it.
    """
    counts = spec.load.requests
    number = requests if requests is not None else (counts.lens if which == "lens" else counts.native)
    values = {"port": str(port if port is not None else chosen.get("", 0)), "requests": str(number)}
    values["seconds"] = str(seconds if seconds is not None else spec.load.seconds)
    for name, value in chosen.items():
        if name:  # the first form is documented; the second is what earlier files have
            values |= {f"port:{name}": str(value), f"{name}.port": str(value)}
    return substitute(tuple(words), values)
