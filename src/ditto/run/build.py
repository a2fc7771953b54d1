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
    for program, package in (("make", "make"), ("cc", "gcc")):
        if shutil.which(program) is None:
            raise MissingCapabilityError(f"{program} is not installed", f"apt-get install {package} libc6-dev")
    jobs = str(os.cpu_count() or 1)
    done = subprocess.run(
        ["make", "--no-print-directory", "-s", "-j", jobs], cwd=clone, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not binary_of(clone).is_file():
        last = " | ".join(line for line in done.stderr.strip().splitlines()[-3:]) or f"exit code {done.returncode}"
        raise DittoError(f"{clone}: the build failed: {last}", f"run 'make -C {clone}' to see all of it")
    return binary_of(clone)
