"""Control groups: limits that limit, and nothing left of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app_parts import processes_in, write_app
from ditto.errors import BadInputError, MissingCapabilityError
from ditto.host import cgroup
from ditto.host.app import AppRun
from ditto.host.cgroup import ControlGroup, Place, find_places

SPIN = "import sys\nwhile True: pass"
HOARD = "b = bytearray(200 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('survived')"


def left() -> list[Path]:
    """Groups of this process that are there."""
    mine = f"{cgroup.PREFIX}{os.getpid()}-*"
    return [path for place in find_places().values() for path in place.folder.glob(mine)]


@pytest.fixture
def usable() -> Iterator[None]:
    """Skips, with the reason, where groups cannot be made; at the end none may be left."""
    try:
        with ControlGroup(("cpu", "memory")):
            pass
    except MissingCapabilityError as error:
        pytest.skip(str(error))
    yield
    assert left() == []


def start(group: ControlGroup, code: str) -> subprocess.Popen[bytes]:
    words, environment = group.wrap([sys.executable, "-c", code], dict(os.environ))
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)


def cpu_seconds(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def test_half_a_core_is_about_half_a_core(usable: None) -> None:
    with ControlGroup(("cpu",)) as group:
        group.limit_cpu(0.5)
        with start(group, SPIN) as spinner:
            try:
                time.sleep(0.5)
                began, used = time.monotonic(), cpu_seconds(spinner.pid)
                time.sleep(1.5)
                cores = (cpu_seconds(spinner.pid) - used) / (time.monotonic() - began)
            finally:
                spinner.kill()
    assert 0.3 < cores < 0.7


def test_a_group_that_yields_leaves_the_core_to_others(usable: None) -> None:
    core = {max(os.sched_getaffinity(0))}
    with ControlGroup(("cpu",)) as group:
        try:
            group.yield_cpu()
        except MissingCapabilityError as error:
            pytest.skip(str(error))
        with start(group, SPIN) as idle, subprocess.Popen([sys.executable, "-c", SPIN]) as busy:
            try:
                for process in (idle, busy):
                    os.sched_setaffinity(process.pid, core)
                time.sleep(0.3)
                before = cpu_seconds(idle.pid), cpu_seconds(busy.pid)
                time.sleep(1.0)
                used = cpu_seconds(idle.pid) - before[0], cpu_seconds(busy.pid) - before[1]
            finally:
                idle.kill()
                busy.kill()
    assert used[0] < 0.2 * used[1]


def test_memory_beyond_the_limit_is_a_counted_kill(usable: None) -> None:
    with ControlGroup(("memory",)) as group:
        group.limit_memory(64 << 20)
        with start(group, HOARD) as hoarder:
            out, _ = hoarder.communicate(timeout=60)
        assert (out, hoarder.returncode) == (b"", -signal.SIGKILL)
        assert group.kills() >= 1
        assert 32 << 20 < group.memory_peak() <= 65 << 20
    with ControlGroup(("memory",)) as group:
        group.limit_memory(400 << 20)
        with start(group, HOARD) as hoarder:
            out, _ = hoarder.communicate(timeout=60)
        assert out == b"survived\n"
        assert group.kills() == 0


def test_servers_of_a_run_are_in_the_group(usable: None, tmp_path: Path) -> None:
    spec = write_app(tmp_path, server="daemon")
    with ControlGroup(("cpu", "memory")) as group, AppRun(spec, wrap=group.wrap) as run:
        for folder in group.folders:
            assert run.pids() == [int(word) for word in (folder / "cgroup.procs").read_text().split()]
        run.load()
    assert not processes_in(tmp_path)


def test_a_failure_inside_leaves_no_group(usable: None) -> None:
    with pytest.raises(ZeroDivisionError), ControlGroup(("cpu",)) as group:
        assert left() == list(group.folders)
        raise ZeroDivisionError
    assert left() == []


def test_what_still_runs_is_let_out_and_goes_on(usable: None) -> None:
    with ControlGroup(("cpu",)) as group:
        spinner = start(group, "import time\nwhile True: time.sleep(0.01)")
        while not (group.folders[0] / "cgroup.procs").read_text():
            time.sleep(0.01)
    try:
        assert left() == []
        assert spinner.poll() is None
    finally:
        spinner.kill()
        spinner.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_group(usable: None, tmp_path: Path, number: signal.Signals) -> None:
    write_app(tmp_path)
    code = f"""
import sys, time
from pathlib import Path
from ditto.artifacts.app import load_app
from ditto.host import interrupts
from ditto.host.app import AppRun
from ditto.host.cgroup import ControlGroup
interrupts.install()
try:
    with ControlGroup(("cpu", "memory")) as group, AppRun(load_app(Path({str(tmp_path / "app.toml")!r})), wrap=group.wrap):
        print(*group.folders, flush=True)
        time.sleep(600)
except KeyboardInterrupt:
    sys.exit(130)
"""  # noqa: E501
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stdout is not None
        folders = [Path(word) for word in driver.stdout.readline().split()]
        assert len(folders) in (1, 2) and all(folder.is_dir() for folder in folders)
        driver.send_signal(number)
        code_ = driver.wait(30)
    if number is signal.SIGKILL:
        # Nothing can be removed then: what runs is ended here, and the next group that is made removes the old one.
        with ControlGroup(("cpu", "memory")):
            assert all(folder.is_dir() for folder in folders)
        for pid in (folders[0] / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        while any((folder / "cgroup.procs").read_text() for folder in folders):
            time.sleep(0.01)
        with ControlGroup(("cpu", "memory")):
            pass
    else:
        assert code_ == 130
    assert not any(folder.exists() for folder in folders)
    assert not processes_in(tmp_path)


def test_a_quota_of_nothing_is_refused(usable: None) -> None:
    with ControlGroup(("cpu",)) as group, pytest.raises(BadInputError, match="too small"):
        group.limit_cpu(0.001)


V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {root}/cpu\\040time rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc {root}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1_OWN = "4:memory:/docker/abc/inner\n2:cpu,cpuacct:/gone\n0::/\n"


def recorded(folder: Path, mounts: str, own: str) -> Path:
    """A folder like /proc/self with these files."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(mounts.format(root=folder))
    (proc / "cgroup").write_text(own)
    return proc


def test_places_of_version_1_are_found_inside_of_containers(tmp_path: Path) -> None:
    (tmp_path / "memory" / "inner").mkdir(parents=True)
    (tmp_path / "cpu time").mkdir()
    places = find_places(recorded(tmp_path, V1_MOUNTS, V1_OWN))
    assert places["memory"] == Place(1, tmp_path / "memory" / "inner", tmp_path / "memory")
    assert places["cpu"] == Place(1, tmp_path / "cpu time", tmp_path / "cpu time")
    assert places[""].version == 2


def unified(folder: Path) -> Path:
    """A folder like a mount of version 2 whose first level hands on cpu and memory, and this process two levels in."""
    mount = folder / "unified"
    inner = mount / "user.slice" / "shell"
    inner.mkdir(parents=True)
    (mount / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (mount / "user.slice" / "cgroup.subtree_control").write_text("memory pids\n")
    (inner / "cgroup.subtree_control").write_text("")
    mounts = "41 31 0:38 / {root}/unified rw,relatime - cgroup2 cgroup2 rw\n"
    return recorded(folder, mounts, "0::/user.slice/shell\n")


@pytest.mark.parametrize(
    ("controllers", "parent"),
    [(("memory",), "unified/user.slice"), (("cpu", "memory"), "unified"), (("cpu",), "unified")],
)
def test_version_2_has_one_group_where_the_controllers_are_handed_on(
    tmp_path: Path, controllers: tuple[str, ...], parent: str
) -> None:
    places = find_places(unified(tmp_path))
    group = ControlGroup(controllers, places)
    with group:
        (folder,) = group.folders
        assert folder.parent == tmp_path / parent
        if "cpu" in controllers:
            group.limit_cpu(0.25)
            assert (folder / "cpu.max").read_text() == "25000 100000"
        if "memory" in controllers:
            group.limit_memory(1 << 20)
            assert (folder / "memory.max").read_text() == str(1 << 20)
            (folder / "memory.current").write_text("77\n")
            assert group.memory_peak() == 77  # kernels before 5.19 keep no peak
            (folder / "memory.peak").write_text("99\n")
            assert group.memory_peak() == 99
            (folder / "memory.events").write_text("low 0\nmax 12\noom 3\noom_kill 2\n")
            assert group.kills() == 2
        for file in folder.iterdir():  # the kernel's files vanish with the folder, these do not
            file.unlink()
    assert not folder.exists()


def test_missing_and_refused_groups_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingCapabilityError, match="mounted for cpu") as caught, ControlGroup(("cpu",), {}):
        pass
    assert "mount -t cgroup2" in caught.value.remedy
    places = {"cpu": Place(1, tmp_path, tmp_path)}
    for number, remedy in ((errno.EACCES, "as root"), (errno.EROFS, "--privileged")):

        def refuse(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, "no")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", refuse)
            with (
                pytest.raises(MissingCapabilityError, match="no control group") as caught,
                ControlGroup(("cpu",), places),
            ):
                pass
        assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
