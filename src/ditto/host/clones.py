"""Built clones: their commands, the services that they call, and the tiers of an application, all wired together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ditto.artifacts.app import AppSpec, Beside, Ready, Service, ports_named
from ditto.artifacts.application import Application, Tier, is_application, load_application
from ditto.errors import BadInputError
from ditto.host import ports as free_ports

_LOOPBACK = "127.0.0.1"
_WILDCARDS = {"0.0.0.0": _LOOPBACK, "::": "::1"}

CLONE_LISTENS = "listening on"  # is printed once its socket is there
CLONE_TAKES_DATAGRAMS = b" datagram port "  # is in that line where nobody can connect to it


def clone_command(program: Path) -> list[str]:
    """The command of a built clone, with ``{port}`` for `AppRun` to fill in."""
    return [str(program.resolve()), "--port", "{port}"]


def built_clone(folder: Path) -> Path:
    """The program of the clone in ``folder``.

    Raises:
        BadInputError: it is not built.
    """
    program = folder.absolute() / "build" / "clone"
    if is_application(folder):
        raise BadInputError(
            f"{folder}: the clone of an app of several services", f"give one of its tiers: {folder}/NAME"
        )
    if not program.is_file():
        raise BadInputError(f"{folder}: no built clone (build/clone is missing)", f"ditto build {folder}")
    return program


def called_services(program: str) -> int:
    """How many other services a built clone calls; none where it is no program of a clone's folder."""
    return len(_service_of(Path(program)).get("downstreams") or [])


def takes_datagrams(program: Path) -> bool:
    """Whether a built clone's requests come as datagrams, so that nobody can connect to it."""
    return bool((_service_of(program).get("listener") or {}).get("datagrams"))


def _service_of(program: Path) -> dict[str, Any]:
    """The service in the profile beside a built clone as plain values; empty where there is none."""
    try:
        profile = json.loads((program.parent.parent / "profile.json").read_text(encoding="utf-8"))
        service = profile["services"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return {}
    return service if isinstance(service, dict) else {}


def called_at(host: str) -> str:
    """Where a server of this machine that listens on an address is called."""
    return _WILDCARDS.get(host, host)


def tier_host(application: Application, tier: Tier, host: str) -> str:
    """What a tier listens on here: ``host`` is for clients, so the entry's; the others are called from here alone."""
    return host if tier.name == application.entry.name else _LOOPBACK


def tier_ports(
    application: Application, port: int, base_port: int | None = None, host: str = _LOOPBACK
) -> dict[str, int]:
    """A port for each tier by name: ``port`` for the entry, and for the others their own, or a free one where that is
    taken, or with ``base_port`` that and those that follow.

    Raises:
        AppError: one that was asked for is in use.
    """
    chosen = {application.entry.name: free_ports.require_free(port, f"--port {port}", host)}
    for number, tier in enumerate(application.tiers[1:]):
        if base_port is not None:
            own = free_ports.require_free(base_port + number, f"--base-port {base_port} for {tier.name}")
        elif tier.port in chosen.values() or not free_ports.is_free(tier.port):
            own = free_ports.find_free()
        else:
            own = tier.port
        chosen[tier.name] = own
    return chosen


def tier_command(
    folder: Path, application: Application, tier: Tier, host: str, ports: Mapping[str, int | str]
) -> list[str]:
    """The command of a tier's built clone on this machine.

    Args:
        folder: of the application.
        host: that the entry listens on.
        ports: of all tiers by name; words that are replaced later, such as ``{port}``, will do.

    Raises:
        BadInputError: it is not built.
    """

    def place(called: str) -> str:
        at = called_at(tier_host(application, application.tier(called), host))
        return f"[{at}]:{ports[called]}" if ":" in at else f"{at}:{ports[called]}"

    program = built_clone(folder / tier.name)
    listens = ["--port", str(ports[tier.name]), "--host", tier_host(application, tier, host)]
    return [str(program), *listens, *downstream_options(tier, place)]


def downstream_options(tier: Tier, place: Callable[[str], str]) -> list[str]:
    """Options that tell a tier's clone where those are that it calls; ``place`` gives a tier's HOST:PORT.

    What is not told, the clone stands in for.
    """
    return [
        word
        for number, called in enumerate(tier.calls)
        if called is not None
        for word in ("--downstream", f"{number}={place(called)}")
    ]


def tier_names(spec: AppSpec, folder: Path) -> dict[str, str]:
    """The tier of each service of an app by its name, of the clone in ``folder``; the entry first."""
    tiers = load_application(folder).tiers
    return {service.name or "": tier.name for service, tier in zip(spec.services, tiers, strict=True)}


def ready_of_clone(ready: Ready) -> Ready:
    """When a clone may be used: it waits as it likes, so its port tells, where that can be connected to."""
    if ready.http is not None:
        return ready
    return Ready() if ready == Ready() else Ready(log=CLONE_LISTENS)


def application_spec(spec: AppSpec, folder: Path) -> AppSpec:
    """The app with the clones of its services in their place, for `AppRun.for_application`.

    Services keep their names and the order in which they start.  None is filled by a client of its own: what a clone
    calls with is filler, so stores answer as they were observed to.  What a tier calls that is no tier is stood in for.

    Args:
        spec: the app of several services.
        folder: of its clone, built.

    Raises:
        BadInputError: no application's clone is there, it has another number of tiers, or a tier is not built.
    """
    application = load_application(folder)
    if len(application.tiers) != len(spec.services):
        raise BadInputError(
            f"{folder}: {len(application.tiers)} tiers, and {spec.path} has {len(spec.services)} services",
            "give the clone that was made of this app",
        )
    names = {tier.name: service.name for tier, service in zip(application.tiers, spec.services, strict=True)}
    services, beside = [], list(spec.beside)
    for tier, service in zip(application.tiers, spec.services, strict=True):
        ports = {name: f"{{port:{called}}}" for name, called in names.items()} | {tier.name: "{port}"}
        command = tier_command(folder, application, tier, _LOOPBACK, ports)
        for number, called in enumerate(tier.calls):
            if called is None:
                name = f"stand-in.{service.name}.{number}"
                stub = (command[0], "--stub", str(number), "--port", "{port}")
                beside.append(Beside(command=stub, port=service.port, name=name))
                command += ["--downstream", f"{number}={_LOOPBACK}:{{port:{name}}}"]
        ready = ready_of_clone(service.ready)
        services.append(Service(command=tuple(command), port=service.port, name=service.name, ready=ready))
    load = spec.load.model_copy(update={"command": spec.load.clone_command or spec.load.command})
    # A client that fills a service behind the entry has the original's keys, and the tiers call with others.
    fills = spec.prepare if spec.prepare is None or not ports_named(spec.prepare.command) else None
    changes = {"services": tuple(services), "beside": tuple(beside), "load": load, "prepare": fills}
    return spec.model_copy(update=changes)
