"""Building a clone with make and a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ditto.errors import BadInputError, DittoError, MissingCapabilityError


def binary_of(clone: Path) -> Path:
    """Where a clone's built program is."""
    return clone / "build" / "clone"


def build_clone(clone: Path) -> Path:
    """Run make in a clone's folder.

    Returns:
        The built program.

    Raises:
        BadInputError: the folder holds no clone.
        MissingCapabilityError: make or a compiler is missing.
        DittoError: the build failed; the message holds the compiler's last lines.
    """
    if not (clone / "Makefile").is_file() or not (clone / "tables.c").is_file():
        raise BadInputError(f"{clone}: no clone here", "make one with 'ditto generate PROFILE -o CLONE'")
    return _make(clone, [], binary_of(clone))


def share_objects(built: Path, clone: Path) -> None:
    """Give a clone what was compiled of the same runtime for another, where it has nothing of its own yet."""
    runtimes = [_contents(folder / "runtime") for folder in (built, clone)]
    if (clone / "build").exists() or not runtimes[0] or runtimes[0] != runtimes[1]:
        return
    (clone / "build").mkdir()
    for name in runtimes[0]:
        made = (built / "build" / name).with_suffix(".o")
        # Copied now, so it is newer than the sources.
        if made.is_file():
            shutil.copyfile(made, clone / "build" / made.name)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def build_static_load(sources: Path, out: Path) -> Path:
    """Build the load generator for an image that holds nothing else, into ``out``; the binary.

    Raises:
        MissingCapabilityError: make or a compiler is missing.
        DittoError: the build failed.
    """
    return _make(sources, [f"OUT={out}", "CFLAGS=-O2 -static"], out / "ditto-load")


def _make(folder: Path, words: list[str], made: Path) -> Path:
    for program, package in (("make", "make"), ("cc", "gcc")):
        if shutil.which(program) is None:
            raise MissingCapabilityError(f"{program} is not installed", f"apt-get install {package} libc6-dev")
    jobs = str(os.cpu_count() or 1)
    done = subprocess.run(
        ["make", "--no-print-directory", "-s", "-j", jobs, *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0 or not made.is_file():
        last = " | ".join(line for line in done.stderr.strip().splitlines()[-3:]) or f"exit code {done.returncode}"
        raise DittoError(f"{folder}: the build failed: {last}", f"run 'make -C {folder}' to see all of it")
    return made
