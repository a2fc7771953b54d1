"""Writing a deployment: the sources of clone and load generator with Dockerfiles, and the files that name them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from ditto.artifacts.files import write_atomic
from ditto.artifacts.target import Target
from ditto.deploy.compose import compose_file
from ditto.deploy.kubernetes import kubernetes_files
from ditto.deploy.parts import Deployed
from ditto.errors import BadInputError

_LOAD_DOCKERFILE = """\
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
COPY . /load
RUN make -C /load

FROM debian:12-slim
COPY --from=build /load/build/ditto-load /ditto-load
COPY requests.plan /requests.plan
ENTRYPOINT ["/ditto-load", "--plan", "/requests.plan"]
"""


def deploy_to(part: Deployed, target: Target, clone: Path, loadgen: Path, plan: bytes, out: Path) -> list[Path]:
    """Write everything into ``out``; the files to give to the tool, in order.

    Args:
        clone: the clone's folder.
        loadgen: the sources of the load generator.
        plan: what the load generator sends.

    Raises:
        BadInputError: ``out`` holds something else already.
    """
    if out.exists() and any(out.iterdir()) and not (out / part.name / "tables.c").is_file():
        raise BadInputError(f"{out}: not empty, and no deployment of {part.name}", "name a new folder with -o")
    for folder in (out / part.name, out / "load"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(clone, out / part.name, ignore=shutil.ignore_patterns("build"))
    (out / "load").mkdir()
    for source in sorted(loadgen.iterdir()):
        if source.suffix in {".c", ".h"} or source.name == "Makefile":
            shutil.copy(source, out / "load")
    (out / "load" / "requests.plan").write_bytes(plan)
    write_atomic(out / "load" / "Dockerfile", _LOAD_DOCKERFILE)
    files: dict[str, list[dict[str, Any]]] = (
        {"compose.yaml": [compose_file(part)]} if target is Target.COMPOSE else kubernetes_files(part)
    )
    for name, objects in files.items():
        write_atomic(out / name, yaml.safe_dump_all(objects, sort_keys=False))
    return [out / name for name in files]
