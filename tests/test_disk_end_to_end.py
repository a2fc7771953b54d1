"""A server with more data than memory and its clone, both under one limit: what they read of the disk a request."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.profile import OpKind, load_profile
from ditto.errors import MissingCapabilityError
from ditto.host.app import AppRun
from ditto.host.cgroup import ControlGroup
from ditto.host.requests import count_requests
from test_databases_end_to_end import BINARIES, ditto

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ebpf,
    pytest.mark.valgrind,
    pytest.mark.skipif(not all(path.exists() for path in BINARIES), reason="the native parts are not built"),
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed"),
]


def reads_of(run: AppRun) -> tuple[float, float]:
    """Operations and bytes a request, once the page cache holds what it can."""
    asked = 0.0
    while asked < 60_000:
        asked += count_requests(run.load(), None).requests
    before = run.disk_use()
    requests = count_requests(run.load(), None).requests
    after = run.disk_use()
    assert before is not None and after is not None
    used = after - before
    return used.reads / requests, used.read_bytes / requests


def test_reads_of_the_disk_are_those_of_the_original(tmp_path: Path) -> None:
    try:
        with ControlGroup(("memory", "io")):
            pass
    except MissingCapabilityError as error:
        pytest.skip(str(error))
    ditto("observe", EXAMPLES / "disk.toml", "-o", tmp_path)
    ditto("model", tmp_path)
    (service,) = load_profile(tmp_path / "profile.json").services
    (read,) = [op for cls in service.classes[:1] for op in cls.program if op.kind is OpKind.FILE_READ]
    assert read.a == 8192 and read.where is not None and read.where.values[-1] == 32768
    ditto("generate", tmp_path / "profile.json", "-o", tmp_path / "clone")
    ditto("build", tmp_path / "clone")
    spec = load_app(EXAMPLES / "disk.toml")
    with AppRun(spec) as run:
        operations, size = reads_of(run)
    with AppRun.for_clone(spec, [str(tmp_path / "clone" / "build" / "clone"), "--port", "{port}"]) as run:
        made_operations, made_size = reads_of(run)
    assert operations > 0.2
    assert made_operations == pytest.approx(operations, rel=0.1)
    assert made_size == pytest.approx(size, rel=0.1)
