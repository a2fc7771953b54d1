"""Built clones: their commands, the services that they call, and the clones of an app's services wired together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ditto.artifacts.app import AppSpec, Beside, Ready, Service, ports_named
from ditto.artifacts.application import Application, Tier, is_application, load_application
from ditto.errors import BadInputError

CLONE_LISTENS = "listening on"  # is printed once its socket is there


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
    path = Path(program).parent.parent / "profile.json"
    try:
        services = json.loads(path.read_text(encoding="utf-8"))["services"]
        return len(services[0].get("downstreams", []))
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError):
        return 0


def tier_command(folder: Path, application: Application, tier: Tier, ports: Mapping[str, int | str]) -> list[str]:
    """The command of one tier's built clone.

    Args:
        folder: of the application's clone.
        ports: of every tier, by name; words that are replaced later, such as ``{port}``, will do.

    Raises:
        BadInputError: the tier is not built.
    """
    command = [str(built_clone(folder / tier.name)), "--port", str(ports[tier.name])]
    for number, called in enumerate(tier.calls):
        if called is not None:
            command += ["--downstream", f"{number}=127.0.0.1:{ports[called]}"]
    return command


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
        command = tier_command(folder, application, tier, ports)
        for number, called in enumerate(tier.calls):
            if called is None:
                name = f"stand-in.{service.name}.{number}"
                stub = (command[0], "--stub", str(number), "--port", "{port}")
                beside.append(Beside(command=stub, port=service.port, name=name))
                command += ["--downstream", f"{number}=127.0.0.1:{{port:{name}}}"]
        ready = ready_of_clone(service.ready)
        services.append(Service(command=tuple(command), port=service.port, name=service.name, ready=ready))
    load = spec.load.model_copy(update={"command": spec.load.clone_command or spec.load.command})
    # A client that fills a service behind the entry has the original's keys, and the tiers call with others.
    fills = spec.prepare if spec.prepare is None or not ports_named(spec.prepare.command) else None
    changes = {"services": tuple(services), "beside": tuple(beside), "load": load, "prepare": fills}
    return spec.model_copy(update=changes)
