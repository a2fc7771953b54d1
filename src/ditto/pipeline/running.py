"""Clones at work: built, run here under supervision, or written as containers; one service's or an application's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ditto import paths
from ditto.artifacts.application import is_application, load_application
from ditto.artifacts.fidelity import Fidelity, load_fidelity
from ditto.artifacts.profile import ServiceProfile, load_profile
from ditto.errors import BadInputError
from ditto.host.progress import Progress

if TYPE_CHECKING:
    from ditto.artifacts.target import Target
    from ditto.run.supervise import Running


@dataclass(frozen=True)
class RunOptions:
    """Options of running clones here.

    Attributes:
        port: that clients use; of an application, its entry's.
        host: that it listens on.
        logs: folder for what they print.
        base_port: of an application's other tiers, and the ports that follow; their own or free ones without it.
        data: where they keep the files they make; an application's tiers each in a folder there.
        seconds: until they are ended; for ever without it.
        restart: whether one that ends is started again.
    """

    port: int
    host: str
    logs: Path
    base_port: int | None = None
    data: Path | None = None
    seconds: float | None = None
    restart: bool = True


def deploy(
    clone: Path,
    target: Target,
    out: Path,
    port: int,
    replicas: dict[str, int],
    registry: str,
    built: bool,
    progress: Progress,
) -> list[Path]:
    """Write a clone, or those of an application, as containers for compose or Kubernetes; the files for the tool.

    Args:
        replicas: for Kubernetes, of an application's tiers by name; under the name "" of the entry.
        built: images are of what is built here, and made without a compiler or a network.

    Raises:
        BadInputError: no clone is there, or the folder holds something else.
    """
    from ditto.deploy import deploy_to, deployed, deployed_tiers
    from ditto.host.synthetic import synthetic_plan
    from ditto.run.build import build_static_load

    progress.stage("deploy")
    if is_application(clone):
        application = load_application(clone)
        folders = [clone / tier.name for tier in application.tiers]
        services = {folder.name: (_service_of(folder), _certificate(folder)) for folder in folders}
        service = services[application.entry.name][0]
        asked = {name or application.entry.name: number for name, number in replicas.items()}
        parts = deployed_tiers(application, services, port, asked, registry)
    else:
        folders = [clone]
        service = _service_of(clone)
        if any(replicas.keys() - {""}):
            raise BadInputError(f"{clone} is the clone of one service", "give the number of its replicas alone")
        parts = [deployed(service, _certificate(clone.parent), port, replicas.get("", 1), registry)]
    plan = synthetic_plan(service).as_bytes()
    loadgen = paths.native_root() / "loadgen"
    with tempfile.TemporaryDirectory(prefix="ditto-deploy-") as scratch:
        load_binary = None
        if built:
            build_all(clone, progress, again=False)
            load_binary = build_static_load(loadgen, Path(scratch))
        return deploy_to(list(zip(parts, folders, strict=True)), target, loadgen, plan, out, load_binary)


def _service_of(clone: Path) -> ServiceProfile:
    """The service that a clone is of.

    Raises:
        BadInputError: no clone is there.
    """
    if not (clone / "profile.json").is_file():
        raise BadInputError(
            f"{clone}: no clone is there (no profile.json)", "give the folder that ditto generate wrote"
        )
    return load_profile(clone / "profile.json").services[0]


def _certificate(folder: Path) -> Fidelity | None:
    path = folder / "fidelity.json"
    return load_fidelity(path) if path.is_file() else None


def run_here(
    folder: Path,
    options: RunOptions,
    ready: Callable[[list[Running]], None],
    say: Callable[[str], None],
) -> None:
    """Run a built clone, or all tiers of an application, watched, until this is interrupted.

    Args:
        ready: told, when all answer, what runs; called tiers before their callers.
        say: told of each that ended.

    Raises:
        BadInputError: one is not built.
        AppError: a port is in use, or one did not come up.
    """
    from ditto.host import ports
    from ditto.host.clones import built_clone, clone_command, tier_ports
    from ditto.run.supervise import Member, supervise, tier_members

    host, port = options.host, options.port
    if is_application(folder):
        application = load_application(folder)
        chosen = tier_ports(application, port, options.base_port, host)
        members = tier_members(folder, application, host, chosen, options.logs, options.data)
    else:
        ports.require_free(port, f"--port {port}", host)
        words = [word.format(port=port) for word in clone_command(built_clone(folder))]
        command = (*words, "--host", host, *([] if options.data is None else ["--data", str(options.data.absolute())]))
        members = [Member("clone", command, host, port, options.logs / "clone.log")]
    supervise(members, ready, say, options.seconds, options.restart)


def build_all(folder: Path, progress: Progress, again: bool = True) -> list[Path]:
    """Compile a clone, or those of an application's tiers; without ``again`` only what is not built.  The binaries."""
    from ditto.run.build import binary_of, build_clone

    tiers = [folder / tier.name for tier in load_application(folder).tiers] if is_application(folder) else [folder]
    progress.stage("build")
    return [
        build_clone(tier) if again or not binary_of(tier).is_file() else binary_of(tier).absolute() for tier in tiers
    ]
