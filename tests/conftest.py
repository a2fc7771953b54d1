"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto import paths
from ditto.host import commands

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot do."""
    no_ebpf = _why_no_ebpf()
    no_valgrind = _why_no_valgrind()
    for item in items:
        if no_ebpf and item.get_closest_marker("ebpf"):
            item.add_marker(pytest.mark.skip(reason=no_ebpf))
        if no_valgrind and item.get_closest_marker("valgrind"):
            item.add_marker(pytest.mark.skip(reason=no_valgrind))


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
