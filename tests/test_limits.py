"""The limits of app.toml: original and clone are held to them, and what disks do is counted under them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from app_parts import write_app
from ditto.artifacts.app import Limits
from ditto.artifacts.verdict import Verdict
from ditto.errors import MissingCapabilityError
from ditto.host import limits
from ditto.host.app import AppRun
from ditto.host.cgroup import PREFIX, ControlGroup, Place, find_places
from ditto.host.limits import DiskUse, device_of
from ditto.host.usage import Usage, read_usage
from ditto.report.text import label_of
from ditto.validate.compare import timed_figures
from ditto.validate.runs import Side, TimedRun

MEGABYTE = 1 << 20


@pytest.fixture
def usable() -> None:
    """Skips, with the reason, where groups cannot be made."""
    try:
        with ControlGroup(("memory", "io")):
            pass
    except MissingCapabilityError as error:
        pytest.skip(str(error))


def groups() -> list[Path]:
    return [path for place in find_places().values() for path in place.folder.glob(f"{PREFIX}{os.getpid()}-*")]


READER = """
import os, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
fd = os.open("data", os.O_RDONLY)
while True:
    c, _ = s.accept()
    if c.recv(100):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for at in range(0, 8 << 20, 1 << 20): os.pread(fd, 4096, at)
        c.sendall(b"x")
    c.close()
"""


def reader(folder: Path, text: str) -> AppRun:
    """A server that reads eight pages from the disk for each request."""
    spec = write_app(folder, extra=f"[limits]\n{text}")
    (folder / "server.py").write_text(READER)
    data = folder / "data"
    data.write_bytes(os.urandom(8 * MEGABYTE))
    with data.open("rb") as file:
        os.fsync(file.fileno())
    return AppRun(spec)


def test_reads_are_counted_and_nothing_is_left(usable: None, tmp_path: Path) -> None:
    with reader(tmp_path, 'memory = "64M"') as run:
        run.load(1)
        before, seen = run.disk_use(), read_usage(run)
        run.load(20)
        after = run.disk_use()
        assert before is not None and after is not None
        used = after - before
        assert used.reads == pytest.approx(160, rel=0.05)
        assert used.read_bytes == pytest.approx(160 * 4096, rel=0.05)
        usage = read_usage(run) - seen
        assert usage.disk == used
    assert groups() == []


def test_what_was_cached_before_is_read_by_the_group(usable: None, tmp_path: Path) -> None:
    run = reader(tmp_path, 'memory = "64M"')
    server = tmp_path / "server.py"
    server.write_text("".join(line for line in READER.splitlines(True) if "DONTNEED" not in line))
    assert len((tmp_path / "data").read_bytes()) == 8 * MEGABYTE  # now it is in the page cache
    with run:
        before = run.disk_use()
        run.load(2)
        after = run.disk_use()
        assert before is not None and after is not None
        assert 8 <= (after - before).reads < 16  # the second finds what the first has read


def test_fewer_reads_a_second_take_longer(usable: None, tmp_path: Path) -> None:
    with reader(tmp_path, "read_iops = 200") as run:
        run.load(1)
        began = time.monotonic()
        run.load(50)
        assert 1.5 < time.monotonic() - began < 4


def test_a_clone_is_held_to_the_same_memory(usable: None, tmp_path: Path) -> None:
    spec = write_app(tmp_path, extra='[limits]\nmemory = "48M"')
    for run in (AppRun(spec), AppRun.for_clone(spec, list(spec.service.command))):
        with run:
            (found,) = {
                path for path in groups() if (path / "memory.limit_in_bytes").exists() or (path / "memory.max").exists()
            }
            name = "memory.limit_in_bytes" if (found / "memory.limit_in_bytes").exists() else "memory.max"
            assert int((found / name).read_text()) == 48 * MEGABYTE
            members = {int(word) for word in (found / "cgroup.procs").read_text().split()}
            assert set(run.pids()) <= members
    with AppRun(spec, which="lens") as run:  # an instrument needs more than the app
        assert groups() == [] and run.disk_use() is None


def test_a_limit_that_cannot_be_had_ends_the_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: None
) -> None:
    monkeypatch.setattr(limits, "device_of", lambda folder: "259:999")
    run = AppRun(write_app(tmp_path, extra="[limits]\nread_iops = 10"))
    with pytest.raises(MissingCapabilityError, match=r"259:999 10"):
        run.start()
    assert groups() == []
    monkeypatch.setattr(limits, "device_of", lambda folder: "0:40")
    with pytest.raises(MissingCapabilityError, match="on no disk"):
        run.start()
    assert groups() == []


def test_the_disk_of_a_partition_is_the_whole_one(tmp_path: Path) -> None:
    number = os.stat(tempfile.gettempdir()).st_dev
    disk, entry = tmp_path / "devices" / "sda", tmp_path / "dev" / "block"
    (disk / "sda1").mkdir(parents=True)
    entry.mkdir(parents=True)
    (disk / "dev").write_text("8:0\n")
    (entry / f"{os.major(number)}:{os.minor(number)}").symlink_to(disk / "sda1")
    assert device_of(Path(tempfile.gettempdir()), tmp_path) == f"{os.major(number)}:{os.minor(number)}"
    (disk / "sda1" / "partition").write_text("1\n")
    assert device_of(Path(tempfile.gettempdir()), tmp_path) == "8:0"


def test_version_2_takes_and_counts_the_same(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("memory io\n")
    place = Place(2, tmp_path, tmp_path)
    with ControlGroup(("memory", "io"), {"": place}) as group:
        (folder,) = group.folders
        group.limit_reads("8:0", 500)
        assert (folder / "io.max").read_text() == "8:0 riops=500"
        (folder / "io.stat").write_text(
            "8:0 rbytes=8192 wbytes=100 rios=2 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=1 rios=1 wios=1\n"
        )
        assert DiskUse(*group.disk_totals()) == DiskUse(3, 8193, 2, 101)
        for file in folder.iterdir():
            file.unlink()


def timed(side: Side, reads: float | None) -> TimedRun:
    disk = None if reads is None else DiskUse(reads, 8192 * reads, 0.0, 0.0)
    return TimedRun(side, 1.0, 1000, "counted", Usage(1, 1, 0, 0, 0, 0, 0, disk=disk), 1 << 20, 1, 1)


def test_disk_operations_are_compared_where_they_were_counted() -> None:
    runs = [timed("original", 500 + n) for n in range(3)] + [timed("clone", 700 + n) for n in range(3)]
    records = {record.metric: record for record in timed_figures(runs, 1).records}
    read = records["disk.read_bytes_per_request"]
    assert read.original == pytest.approx(0.501 * 8192) and read.clone == pytest.approx(0.701 * 8192)
    assert read.verdict is Verdict.OUTSIDE and records["disk.writes_per_request"].verdict is not Verdict.OUTSIDE
    assert label_of(read) == "Bytes read of the disk per request"
    unlimited = timed_figures([timed("original", None), timed("clone", None)], 1)
    assert not [record for record in unlimited.records if record.group == "disk"]


def test_sizes_are_in_binary_units() -> None:
    assert Limits(memory="96M").memory == 96 * MEGABYTE  # type: ignore[arg-type]
    assert Limits(memory="1G").memory == 1024 * MEGABYTE  # type: ignore[arg-type]
    assert Limits().memory is None
