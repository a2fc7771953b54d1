"""Where Ditto's own files are: native parts and templates.

Set ``DITTO_NATIVE`` to use native parts from another folder than the checkout's ``native/``.
"""

from __future__ import annotations

import os
from pathlib import Path


def native_root() -> Path:
    """The folder that holds ``collector/``, ``lens/``, ``runtime/`` and ``loadgen/``."""
    override = os.environ.get("DITTO_NATIVE")
    return Path(override) if override else Path(__file__).resolve().parents[2] / "native"


def collector_binary() -> Path:
    """The eBPF collector (built by ``make -C native/collector``)."""
    return native_root() / "collector" / "build" / "ditto-collect"


def ptrace_binary() -> Path:
    """The ptrace recorder, the fallback where eBPF is not permitted."""
    return native_root() / "collector" / "build" / "ditto-ptrace"


def loadgen_binary() -> Path:
    """The load generator (built by ``make -C native/loadgen``)."""
    return native_root() / "loadgen" / "build" / "ditto-load"


def lens_directory() -> Path:
    """The directory to use as VALGRIND_LIB: the lens tool beside links to Valgrind's own files."""
    return native_root() / "lens" / "build"


def runtime_sources() -> Path:
    """The C runtime that every clone links and ships."""
    return native_root() / "runtime"
