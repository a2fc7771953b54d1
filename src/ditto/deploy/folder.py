"""Writing a deployment: the sources of clones and load generator with Dockerfiles, and the files that name them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ditto.artifacts.files import write_atomic
from ditto.artifacts.target import Target
from ditto.deploy.compose import compose_file
from ditto.deploy.kubernetes import kubernetes_files
from ditto.deploy.parts import PORT, Deployed
from ditto.errors import BadInputError

_LOAD_DOCKERFILE = """\
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
COPY . /load
RUN make -C /load CFLAGS="-O2 -static"

FROM scratch
COPY --from=build /load/build/ditto-load /ditto-load
COPY requests.plan /requests.plan
ENTRYPOINT ["/ditto-load", "--plan", "/requests.plan"]
"""
_BUILT_LOAD_DOCKERFILE = """\
FROM scratch
COPY ditto-load requests.plan /
ENTRYPOINT ["/ditto-load", "--plan", "/requests.plan"]
"""
_BUILT_DOCKERFILE = f"""\
FROM scratch
COPY clone /clone
COPY --chmod=1777 tmp /tmp
EXPOSE {PORT}
ENTRYPOINT ["/clone", "--host", "0.0.0.0", "--port", "{PORT}"]
"""


def deploy_to(
    parts: Sequence[tuple[Deployed, Path]],
    target: Target,
    loadgen: Path,
    plan: bytes,
    out: Path,
    load_binary: Path | None = None,
) -> list[Path]:
    """Write everything into ``out``; the files to give to the tool, in order.

    Args:
        parts: what is deployed, the entry first, each with its clone's folder.
        loadgen: the sources of the load generator.
        plan: what the load generator sends.
        load_binary: the load generator, linked statically: images are of it and of the built clones then.

    Raises:
        BadInputError: ``out`` holds something else already.
    """
    entry = parts[0][0]
    if out.exists() and any(out.iterdir()) and not (out / entry.load_name / "requests.plan").is_file():
        raise BadInputError(f"{out}: not empty, and no deployment of {entry.name}", "name a new folder with -o")
    for part, clone in parts:
        folder = out / part.name
        shutil.rmtree(folder, ignore_errors=True)
        if load_binary is None:
            shutil.copytree(clone, folder, ignore=shutil.ignore_patterns("build"))
        else:
            (folder / "tmp").mkdir(parents=True)
            shutil.copy(clone / "build" / "clone", folder)
            write_atomic(folder / "Dockerfile", _BUILT_DOCKERFILE)
    _write_load(out / entry.load_name, loadgen, plan, load_binary)
    deployed = [part for part, _ in parts]
    files: dict[str, list[dict[str, Any]]] = (
        {"compose.yaml": [compose_file(deployed)]} if target is Target.COMPOSE else kubernetes_files(deployed)
    )
    for name, objects in files.items():
        write_atomic(out / name, yaml.safe_dump_all(objects, sort_keys=False))
    return [out / name for name in files]


def _write_load(folder: Path, loadgen: Path, plan: bytes, binary: Path | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if binary is not None:
        shutil.copy(binary, folder)
    else:
        for source in sorted(loadgen.iterdir()):
            if source.suffix in {".c", ".h"} or source.name == "Makefile":
                shutil.copy(source, folder)
    (folder / "requests.plan").write_bytes(plan)
    write_atomic(folder / "Dockerfile", _LOAD_DOCKERFILE if binary is None else _BUILT_LOAD_DOCKERFILE)
