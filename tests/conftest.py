"""What all tests share.

`make test` has two workers.  Most modules run on both, the long ones first.  What times something or shares what a
machine has once runs after that, one test at a time, on one worker.
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

ALONE = [
    f"test_{name}"
    for name in (
        "cgroup", "collector", "collector_life", "cpu_clock", "limits", "loadgen", "study", "validate_run",
        "messages.py::test_a_server_whose_loop_passes_requests_to_workers",
    )
]  # fmt: skip
"""Modules and single tests that time something, or count what depends on how busy the machine is."""

LONG = [
    f"test_{name}"
    for name in (
        "end_to_end", "application_clone", "databases_end_to_end", "fastcgi_end_to_end", "shapes", "calling_services",
        "sampled", "disk_end_to_end", "opaque", "datagrams", "language_runtimes", "recorded_graph", "runtime_calls",
        "validate_instructions", "topology_damage", "body", "runtime_codecs", "lens_servers", "lens_run",
        "failing_services", "sharing", "messages", "lint", "downstream", "cli",
    )
]  # fmt: skip
"""Modules that take longest, which begin first."""

CCACHE = Path("/usr/lib/ccache")
"""Compilers that keep what they made, where Debian's package puts them: most clones of tests are of one runtime."""


def pytest_configure(config: pytest.Config) -> None:
    if (CCACHE / "cc").exists():
        os.environ["PATH"] = f"{CCACHE}:{os.environ['PATH']}"
        os.environ["CCACHE_DIR"] = str(ROOT / "build" / "ccache")
        os.environ["CCACHE_MAXSIZE"] = "1G"


def _alone(nodeid: str) -> bool:
    """Whether a test needs the machine for itself."""
    module, test = Path(nodeid.split("::")[0]).stem, nodeid.split("[")[0]
    return any(module == name or test.endswith(f"/{name}") for name in ALONE)


def _turn(nodeid: str) -> int:
    """When a test's module begins: the long ones, all others, what needs the machine for itself."""
    module = Path(nodeid.split("::")[0]).stem
    if _alone(nodeid):
        return len(LONG) + 1
    return LONG.index(module) if module in LONG else len(LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Modules in order to whichever worker is free, and all that needs the machine for itself to one, last."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "alone" if _alone(nodeid) else str(nodeid.split("::")[0])

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot do; of several workers, see what is to be run last."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))
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
    if not hasattr(item.config, "workerinput"):
        return (yield)
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if _alone(item.nodeid) else fcntl.LOCK_SH)
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
