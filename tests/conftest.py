"""What all tests share.

`make test` has two workers.  Modules that only compute, compile, or ask a program what it answers run on both, first.
All others observe or time something, or share what a machine has once: they run after that, one at a time, on one
worker.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ditto import paths
from ditto.host import commands

ROOT = Path(__file__).resolve().parents[1]

BESIDE_OTHERS = [
    f"test_{name}"
    for name in (
        "topology_damage", "body", "runtime_codecs", "failing_services", "sharing", "lint", "downstream", "cli",
        "access", "sql", "serial", "calls_followed", "deploy", "generated_clone", "fastcgi", "lens_tool",
        "lens_classes", "lens_limits", "lens_trace", "pipelined", "generate", "topology", "report", "study_report",
        "topology_page", "tune", "recorded_courses", "recorded_framing", "app_spec", "application", "certificates",
        "fidelity", "graph_difference", "path_classes", "predict", "profile", "reply_frame", "structure",
        "validate_requests", "validate_statistics",
    )
]  # fmt: skip
"""Modules whose tests come out alike whatever else runs; the long ones first."""

CCACHE = Path("/usr/lib/ccache")
"""Compilers that keep what they made, where Debian's package puts them: most clones of tests are of one runtime."""


def pytest_configure(config: pytest.Config) -> None:
    if (CCACHE / "cc").exists():
        os.environ["PATH"] = f"{CCACHE}:{os.environ['PATH']}"
        os.environ["CCACHE_DIR"] = str(ROOT / "build" / "ccache")
        os.environ["CCACHE_MAXSIZE"] = "1G"


def _together(item: pytest.Item) -> bool:
    return item.path.stem in BESIDE_OTHERS


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot do; put what needs it for itself last, on one worker."""
    if hasattr(config, "workerinput"):
        places = {name: number for number, name in enumerate(BESIDE_OTHERS)}
        items.sort(key=lambda item: places.get(item.path.stem, len(places)))
        for item in items:
            item.add_marker(pytest.mark.xdist_group(item.path.stem if _together(item) else "alone"))
    no_ebpf = _why_no_ebpf()
    no_valgrind = _why_no_valgrind()
    for item in items:
        if no_ebpf and item.get_closest_marker("ebpf"):
            item.add_marker(pytest.mark.skip(reason=no_ebpf))
        if no_valgrind and item.get_closest_marker("valgrind"):
            item.add_marker(pytest.mark.skip(reason=no_valgrind))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Of two workers, one waits while the other has a test that needs the machine for itself."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return (yield)
    with (Path(tempfile.gettempdir()) / f"ditto-tests-{run}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if _together(item) else fcntl.LOCK_EX)
        return (yield)


def _why_no_ebpf() -> str:
    if not paths.collector_binary().is_file():
        return f"{paths.collector_binary()} is not built (make native)"
    return "" if os.geteuid() == 0 else "eBPF needs root"


def _why_no_valgrind() -> str:
    if commands.find_program("valgrind") is None:
        return "valgrind is not installed"
    tool = paths.lens_directory() / "lens-amd64-linux"
    return "" if tool.is_file() else f"{tool} is not built (make native)"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="dt-") as folder:
        yield Path(folder)
