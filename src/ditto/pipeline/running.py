"""Clones at work: built, run here under supervision, or written as containers; one service's or an application's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ditto import paths
from ditto.artifacts.application import is_application, load_application
from ditto.host.progress import Progress

if TYPE_CHECKING:
    from ditto.artifacts.target import Target
    from ditto.host.running import Running, RunOptions


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
    from ditto.deploy import deploy_to, parts_of
    from ditto.run.build import build_static_load

    progress.stage("deploy")
    parts, plan = parts_of(clone, port, replicas, registry)
    loadgen = paths.native_root() / "loadgen"
    with tempfile.TemporaryDirectory(prefix="ditto-deploy-") as scratch:
        load_binary = None
        if built:
            build_all(clone, progress, again=False)
            load_binary = build_static_load(loadgen, Path(scratch))
        return deploy_to(parts, target, loadgen, plan, out, load_binary)


def run_here(
    folder: Path,
    options: RunOptions,
    logs: Path,
    ready: Callable[[list[Running]], None],
    say: Callable[[str], None],
) -> None:
    """Run a built clone, or all tiers of an application, watched, until this is interrupted.

    Args:
        logs: folder for what they print.
        ready: told, when all answer, what runs; called tiers before their callers.
        say: told of each that ended.

    Raises:
        BadInputError: one is not built.
        AppError: a port is in use, or one did not come up.
    """
    from ditto.run.supervise import run_folder

    run_folder(folder, options, logs, ready, say)


def build_all(folder: Path, progress: Progress, again: bool = True) -> list[Path]:
    """Compile a clone, or those of an application's tiers; without ``again`` only what is not built.  The binaries."""
    from ditto.run.build import binary_of, build_clone, share_objects

    tiers = [folder / tier.name for tier in load_application(folder).tiers] if is_application(folder) else [folder]
    progress.stage("build")
    made = []
    for number, tier in enumerate(tiers):
        progress.update(tier.name, number / len(tiers))
        if again or not binary_of(tier).is_file():
            if number:
                share_objects(tiers[0], tier)
            build_clone(tier)
        made.append(binary_of(tier).absolute())
    return made
