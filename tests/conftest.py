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
        "application_clone", "databases_end_to_end", "fastcgi_end_to_end", "opaque", "disk_end_to_end",
        "runtime_calls.py::test_compiles_without_warnings",
        "runtime_calls.py::test_the_makefile_fragment_needs_only_make_and_cc",
        "topology_damage", "body", "runtime_codecs", "failing_services", "sharing", "lint", "downstream", "cli",
        "access", "sql", "serial", "calls_followed", "deploy", "generated_clone", "fastcgi", "lens_tool",
        "lens_classes", "lens_limits", "lens_trace", "pipelined", "generate", "topology", "report", "study_report",
        "topology_page", "tune", "born", "h2", "messages.py::test_requests_that_pass_are_all_answered", "dns",
        "database_calls", "pulled_jobs", "build", "places", "recorded_courses", "recorded_framing", "app_spec",
        "application", "certificates", "fidelity", "graph_difference", "path_classes", "predict", "profile",
        "reply_frame", "structure", "validate_requests", "validate_statistics",
    )
]  # fmt: skip
"""Modules and single tests that come out alike whatever else runs, the long ones first."""

MEASURING = ("ebpf", "valgrind", "slow")
"""Marks of tests that judge what they measured on a machine that others use as well: such a test, and any that runs
alone, fails if it fails twice; a first failure is listed in the summary."""

CCACHE = Path("/usr/lib/ccache")
"""Compilers that keep what they made, where Debian's package puts them: most clones of tests are of one runtime."""


def pytest_configure(config: pytest.Config) -> None:
    if (CCACHE / "cc").exists():
        os.environ["PATH"] = f"{CCACHE}:{os.environ['PATH']}"
        os.environ["CCACHE_DIR"] = str(ROOT / "build" / "ccache")
        os.environ["CCACHE_MAXSIZE"] = "1G"


def _beside(nodeid: str) -> int | None:
    """The place of a test's module or of itself in `BESIDE_OTHERS`; None if it needs the machine for itself."""
    module, test = Path(nodeid.split("::")[0]).stem, nodeid.split("[")[0]
    for number, name in enumerate(BESIDE_OTHERS):
        if module == name or test.endswith(f"/{name}"):
            return number
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Modules in order to whichever worker is free, and all that needs the machine for itself to one, last."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "alone" if _beside(nodeid) is None else str(nodeid.split("::")[0])

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot do; of several workers, see what is to be run last."""
    if hasattr(config, "workerinput"):
        places = {item: _beside(item.nodeid) for item in items}
        items.sort(key=lambda item: len(BESIDE_OTHERS) if (place := places[item]) is None else place)
    no_ebpf = _why_no_ebpf()
    no_valgrind = _why_no_valgrind()
    for item in items:
        if no_ebpf and item.get_closest_marker("ebpf"):
            item.add_marker(pytest.mark.skip(reason=no_ebpf))
        if no_valgrind and item.get_closest_marker("valgrind"):
            item.add_marker(pytest.mark.skip(reason=no_valgrind))
        if _beside(item.nodeid) is None or any(item.get_closest_marker(mark) for mark in MEASURING):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Of two workers, one waits while the other has a test that needs the machine for itself."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if _beside(item.nodeid) is None else fcntl.LOCK_SH)
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
