"""Both native collectors, against programs whose system calls are known exactly."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ditto.artifacts.records import HEADER, RECORD, VERSION, Kind, Mode, Recording, load_recording
from ditto.errors import BadInputError, MissingCapabilityError, RecordingError
from ditto.observe.native_run import CallCounter, NativeRecorder, RecorderStatus
from ditto.paths import native_root

COLLECTORS = [pytest.param("ebpf", marks=pytest.mark.ebpf), pytest.param("ptrace")]
Which = Literal["ebpf", "ptrace"]

READ, WRITE, MMAP, NANOSLEEP, GETPID, SENDTO, RECVFROM = 0, 1, 9, 35, 39, 44, 45
SOCKETPAIR, FORK, EXECVE, EXIT, WRITEV, GETPPID, GETTID = 53, 57, 59, 60, 20, 110, 186
EXIT_GROUP, EPOLL_WAIT, EPOLL_CTL, OPENAT, SETSOCKOPT, FUTEX, CONNECT, IOCTL = 231, 232, 233, 257, 54, 202, 42, 16

KNOWN = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *thread(void *arg) {
	for (int i = 0; i < 101; i++)
		syscall(SYS_gettid);
	return arg;
}

int main(void) {
	int pair[2], ep, udp, one = 1;
	char byte[64], parts[5][16] = {"alpha", "bravo", "charlie", "delta", "echo"};
	struct iovec iov[5];
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x1122334455667788ull}, got[8];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timespec nap = {.tv_sec = 0, .tv_nsec = 1234567};
	pthread_t threads[4];
	pid_t child;
	char *pages;

	read(0, byte, 1); /* until it is followed */
	for (int i = 0; i < 1009; i++)
		syscall(SYS_getpid);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
	for (int i = 0; i < 503; i++) {
		write(pair[0], "abcdefg", 7);
		read(pair[1], byte, sizeof(byte));
	}
	for (int i = 0; i < 17; i++)
		recv(pair[1], byte, sizeof(byte), 0); /* EAGAIN */
	for (int i = 0; i < 5; i++)
		iov[i] = (struct iovec){parts[i], 3 + i};
	writev(pair[0], iov, 5);
	ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &ev);
	epoll_wait(ep, got, 8, -1);
	open("/nonexistent/prime-1009", O_RDONLY);
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ioctl(udp, FIONBIO, &one);
	ioctl(udp, FIOCLEX, 0); /* no address */
	sendto(udp, "xyz", 3, 0, (struct sockaddr *)&to, sizeof(to));
	syscall(SYS_nanosleep, &nap, 0);
	pages = mmap(0, 1013 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(pages, 1013 * 4096, MADV_NOHUGEPAGE);
	for (int i = 0; i < 1013; i++)
		pages[i * 4096L] = 1;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, thread, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	child = syscall(SYS_fork);
	if (child == 0) {
		for (int i = 0; i < 211; i++)
			syscall(SYS_getppid);
		_exit(5);
	}
	waitpid(child, 0, 0);
	return 7;
}
"""

EXEC_FROM_THREAD = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
static char **args;
static void *thread(void *arg) {
	char *next[] = {args[0], "again", 0};
	for (int i = 0; i < 31; i++)
		syscall(SYS_gettid);
	execv(args[0], next);
	return arg;
}
int main(int argc, char **argv) {
	pthread_t t;
	char byte;
	args = argv;
	if (argc > 1) {
		for (int i = 0; i < 37; i++)
			syscall(SYS_getppid);
		return 0;
	}
	read(0, &byte, 1);
	pthread_create(&t, 0, thread, 0);
	pthread_join(t, 0);
	return 1;
}
"""

SPIN = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
	char byte;
	read(0, &byte, 1);
	for (long i = 0; i < (argc > 1 ? atol(argv[1]) : 0); i++)
		syscall(SYS_getppid);
	read(0, &byte, 1);
	return 0;
}
"""

Build = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("programs")

    def compile_(name: str, source: str) -> Path:
        binary = folder / name
        if not binary.exists():
            (folder / f"{name}.c").write_text(source)
            subprocess.run(["cc", "-O1", "-w", "-pthread", f"{folder / name}.c", "-o", str(binary)], check=True)
        return binary

    return compile_


def need(which: Which, tmp_path: Path) -> None:
    """Skip, with the reason, where this machine does not allow the collector."""
    own = subprocess.Popen(["sleep", "60"])
    try:
        recorder = NativeRecorder()
        recorder.start([own.pid], tmp_path / "probe.rec", which)
        recorder.stop()
    except MissingCapabilityError as error:
        pytest.skip(str(error))
    finally:
        own.kill()
        own.wait()


def at_the_gate(pid: int) -> None:
    """Wait until a program has gone through the loader and blocks in its first read of standard input."""
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
        assert time.monotonic() < deadline, "the program does not wait at its gate"
        time.sleep(0.001)


def record(
    binary: Path, out: Path, which: Which, arguments: tuple[str, ...] = (), feed: bytes = b"xx", **options: float
) -> tuple[Recording, RecorderStatus, subprocess.Popen[bytes]]:
    """Run a program that waits for a byte, recorded from before that byte until its end."""
    program = subprocess.Popen([str(binary), *arguments], stdin=subprocess.PIPE)
    at_the_gate(program.pid)
    with NativeRecorder() as recorder:
        recorder.start([program.pid], out, which, **options)
        program.communicate(feed, timeout=60)
        status = recorder.stop()
    return load_recording(out), status, program


def calls(recording: Recording, nr: int) -> np.ndarray:
    chosen = recording.records
    return chosen[(chosen["kind"] == Kind.SYSCALL) & (chosen["nr"] == nr)]


def payload(row: np.void) -> bytes:
    return row["payload"].tobytes()[: int(row["payload_len"])]


def test_layout_is_that_of_the_header(tmp_path: Path) -> None:
    names = list(RECORD.names or ())
    lines = [
        f'printf("{n} %zu %zu\\n", offsetof(struct ditto_rec, {n}), sizeof(((struct ditto_rec *)0)->{n}));'
        for n in names
    ]
    head = list(HEADER.names or ())
    lines += [
        f'printf("H{n} %zu %zu\\n", offsetof(struct ditto_rec_header, {n}), '
        f"sizeof(((struct ditto_rec_header *)0)->{n}));"
        for n in head
    ]
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "record.h"\nint main(void) {'
        'printf("%zu %zu %u\\n", sizeof(struct ditto_rec), sizeof(struct ditto_rec_header), DITTO_REC_VERSION);'
        + "".join(lines)
        + "}"
    )
    binary = tmp_path / "layout"
    subprocess.run(["cc", "-I", str(native_root() / "collector"), str(source), "-o", str(binary)], check=True)
    said = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.split("\n")
    assert said[0] == f"{RECORD.itemsize} {HEADER.itemsize} {VERSION}"
    expected = [(n, RECORD.fields[n]) for n in names] + [("H" + n, HEADER.fields[n]) for n in head]  # type: ignore[index]
    assert said[1:-1] == [f"{name} {field[1]} {field[0].itemsize}" for name, field in expected]


@pytest.mark.parametrize("which", COLLECTORS)
def test_known_program(which: Which, build: Build, tmp_path: Path) -> None:
    need(which, tmp_path)
    recording, status, program = record(build("known", KNOWN), tmp_path / "known.rec", which)
    assert program.returncode == 7
    assert status.lost == 0
    assert status.records == len(recording.records)
    assert recording.collector == which
    found = {
        nr: len(calls(recording, nr))
        for nr in (GETPID, WRITE, READ, RECVFROM, WRITEV, GETTID, GETPPID, FORK, NANOSLEEP, SENDTO, EXIT, EXIT_GROUP)
    }
    # The read at the gate is in flight when the recorder attaches, which may or may not show its end.
    assert found.pop(READ) in (503, 504)
    assert found == {
        GETPID: 1009, WRITE: 503, RECVFROM: 17, WRITEV: 1, GETTID: 404, GETPPID: 211, FORK: 1,
        NANOSLEEP: 1, SENDTO: 1, EXIT: 4, EXIT_GROUP: 2,
    }  # fmt: skip

    writes = calls(recording, WRITE)
    assert set(writes["ret"].tolist()) == {7}
    assert {payload(row) for row in writes} == {b"abcdefg"}
    assert set(calls(recording, RECVFROM)["ret"].tolist()) == {-11}
    vector = calls(recording, WRITEV)[0]
    assert (int(vector["iovcnt"]), vector["iov"].tolist(), int(vector["ret"])) == (5, [3, 4, 5, 6], 25)
    assert payload(vector) == b"alp"
    event = (1).to_bytes(4, "little") + (0x1122334455667788).to_bytes(8, "little")
    assert payload(calls(recording, EPOLL_CTL)[0]) == event
    waited = calls(recording, EPOLL_WAIT)[0]
    assert (payload(waited), int(waited["aux"]), int(waited["ret"])) == (event, 1, 1)
    opened = calls(recording, OPENAT)
    missing = [row for row in opened if payload(row) == b"/nonexistent/prime-1009\0"]
    assert [int(row["ret"]) for row in missing] == [-2]
    assert payload(calls(recording, SETSOCKOPT)[0]) == (1).to_bytes(4, "little")
    assert [payload(row) for row in calls(recording, IOCTL)] == [(1).to_bytes(4, "little"), b""]
    sent = calls(recording, SENDTO)[0]
    assert (payload(sent), int(sent["aux"])) == (b"xyz", 16)
    nap = calls(recording, NANOSLEEP)[0]
    assert payload(nap) == (0).to_bytes(8, "little") + (1234567).to_bytes(8, "little")
    assert int(nap["wall_ns"]) >= 1234567
    pair = calls(recording, SOCKETPAIR)[0]
    assert len(payload(pair)) == 8

    births = recording.records[recording.records["kind"] == Kind.BIRTH]
    exits = recording.records[recording.records["kind"] == Kind.EXIT]
    assert len(births) == 6 == len(exits)
    assert Counter(exits["ret"].tolist())[5] == 1
    child = births[(births["pid"] != program.pid)]
    assert len(child) == 1 and child[0]["args"][:2].tolist() == [program.pid, program.pid]
    threads = births[(births["pid"] == program.pid) & (births["tid"] != program.pid)]
    assert len(threads) == 4
    assert all(int(row["args"][2]) & 0x10000 for row in threads)  # CLONE_THREAD
    per_thread = Counter(calls(recording, GETTID)["tid"].tolist())
    assert sorted(per_thread.values()) == [101] * 4
    assert set(per_thread) == set(threads["tid"].tolist())


@pytest.mark.ebpf
def test_times_and_faults(build: Build, tmp_path: Path) -> None:
    need("ebpf", tmp_path)
    recording, _, program = record(build("known", KNOWN), tmp_path / "times.rec", "ebpf")
    rows = recording.records[recording.records["kind"] == Kind.SYSCALL]
    assert (rows["cpu_ns"] <= rows["wall_ns"]).all()
    assert (rows["wall_ns"] < 60_000_000_000).all()
    nap = calls(recording, NANOSLEEP)[0]
    assert int(nap["cpu_ns"]) < int(nap["wall_ns"])
    main = rows[rows["tid"] == program.pid]
    assert (np.diff(main["run_ns"].astype(np.int64)) >= 0).all()
    assert (np.diff(main["nvcsw"].astype(np.int64)) >= 0).all()
    assert int(main["nvcsw"][-1]) >= 1
    faults = recording.records[(recording.records["kind"] == Kind.FAULT) & (recording.records["tid"] == program.pid)]
    assert 1013 <= int(faults["args"][:, 0].sum()) < 1013 + 200


@pytest.mark.parametrize("which", COLLECTORS)
def test_exec_by_a_thread(which: Which, build: Build, tmp_path: Path) -> None:
    need(which, tmp_path)
    recording, status, program = record(build("execer", EXEC_FROM_THREAD), tmp_path / "exec.rec", which)
    assert status.lost == 0 and program.returncode == 0
    assert len(calls(recording, GETTID)) == 31
    after = calls(recording, GETPPID)
    assert len(after) == 37 and set(after["tid"].tolist()) == {program.pid}
    execs = recording.records[recording.records["kind"] == Kind.EXEC]
    assert len(execs) == 1 and b"execer" in payload(execs[0])
    done = [int(row["ret"]) for row in calls(recording, EXECVE)]
    assert done == [0]


@pytest.mark.parametrize("which", COLLECTORS)
def test_modes(which: Which, build: Build, tmp_path: Path) -> None:
    need(which, tmp_path)
    program = subprocess.Popen([str(build("spin", SPIN)), "97"], stdin=subprocess.PIPE)
    assert program.stdin is not None
    with NativeRecorder() as recorder:
        recorder.start([program.pid], tmp_path / "modes.rec", which, mode=Mode.OFF)
        assert recorder.set_mode(Mode.STRUCTURE).mode is Mode.STRUCTURE
        program.communicate(b"xx", timeout=30)
        recorder.set_mode(Mode.OFF)
        recorder.stop()
    recording = load_recording(tmp_path / "modes.rec")
    assert len(calls(recording, READ)) == 0
    assert len(calls(recording, GETPPID)) == 97
    marks = recording.records[recording.records["kind"] == Kind.MARK]
    assert marks["nr"].tolist() == [Mode.OFF, Mode.STRUCTURE, Mode.OFF]


@pytest.mark.parametrize("which", COLLECTORS)
def test_off_records_no_call_and_app_runs_on(which: Which, build: Build, tmp_path: Path) -> None:
    need(which, tmp_path)
    program = subprocess.Popen([str(build("spin", SPIN)), "89"], stdin=subprocess.PIPE)
    with NativeRecorder() as recorder:
        recorder.start([program.pid], tmp_path / "off.rec", which, mode=Mode.OFF)
        recorder.stop()
    assert program.poll() is None
    program.communicate(b"xx", timeout=30)
    assert program.returncode == 0
    assert not (load_recording(tmp_path / "off.rec").records["kind"] == Kind.SYSCALL).any()


@pytest.mark.ebpf
def test_loss_is_counted(build: Build, tmp_path: Path) -> None:
    need("ebpf", tmp_path)
    recording, status, _ = record(
        build("spin", SPIN), tmp_path / "tiny.rec", "ebpf", ("50021",), buffer_mb=4096 / 1048576
    )
    seen = len(calls(recording, GETPPID))
    assert status.lost_ring > 0
    assert status.records == len(recording.records)
    # 50021 calls, two reads, exit_group; a birth, an exit, a mark and some faults.
    others = int(np.isin(recording.records["kind"], [Kind.FAULT]).sum())
    assert seen < 50021
    assert 50021 + 3 + 3 <= status.records - others + status.lost <= 50021 + 3 + 3 + 50


@pytest.mark.ebpf
def test_counter(build: Build, tmp_path: Path) -> None:
    need("ebpf", tmp_path)
    program = subprocess.Popen([str(build("known", KNOWN))], stdin=subprocess.PIPE)
    with CallCounter() as counter:
        counter.start([program.pid])
        program.communicate(b"x", timeout=30)
        rows = counter.read()
    assert counter.lost == 0
    total: Counter[int] = Counter()
    for row in rows:
        total[row.nr] += row.count
    assert (total[GETPID], total[WRITE], total[GETTID], total[GETPPID], total[EXIT_GROUP]) == (1009, 503, 404, 211, 2)
    assert sum(row.bytes for row in rows if row.nr == WRITE) == 503 * 7
    assert sum(row.again for row in rows if row.nr == RECVFROM) == 17
    assert len({row.tid for row in rows if row.nr == GETTID}) == 4


@pytest.mark.parametrize("which", COLLECTORS)
def test_bad_input_is_told(which: Which, tmp_path: Path) -> None:
    need(which, tmp_path)
    with pytest.raises(BadInputError, match="No such process"):
        NativeRecorder().start([2**22 + 1], tmp_path / "x.rec", which)
    with pytest.raises(BadInputError, match="No such file"):
        NativeRecorder().start([1], tmp_path / "no" / "x.rec", which)


@pytest.mark.parametrize("which", COLLECTORS)
def test_full_disk_is_told(which: Which, build: Build, tmp_path: Path) -> None:
    need(which, tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    program = subprocess.Popen([str(build("spin", SPIN)), "20011"], stdin=subprocess.PIPE)
    try:
        recorder = NativeRecorder()
        recorder.start([program.pid], disk / "x.rec", which)
        program.communicate(b"xx", timeout=60)
        assert program.returncode == 0
        with pytest.raises(RecordingError, match="No space left"):
            recorder.stop()
    finally:
        program.kill()
        program.wait()
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("which", COLLECTORS)
def test_agrees_with_strace(which: Which, build: Build, tmp_path: Path) -> None:
    """The same program under both, from its first instruction after the gate on."""
    need(which, tmp_path)
    binary = build("known", KNOWN)
    recording, _, _ = record(binary, tmp_path / "a.rec", which)
    log = tmp_path / "strace.txt"
    program = subprocess.Popen([str(binary)], stdin=subprocess.PIPE)
    at_the_gate(program.pid)
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-p", str(program.pid), "-o", str(log)], stderr=subprocess.PIPE)
    while "TracerPid:\t0" in Path(f"/proc/{program.pid}/status").read_text():
        pass
    program.communicate(b"x", timeout=60)
    tracer.wait(timeout=30)
    theirs: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        name = line.split(None, 1)[1].split("(")[0]
        if name.isidentifier():
            theirs[name] += 1
    numbers = {"getpid": GETPID, "write": WRITE, "read": READ, "recvfrom": RECVFROM, "gettid": GETTID, "mmap": MMAP,
               "getppid": GETPPID, "openat": OPENAT, "exit_group": EXIT_GROUP, "exit": EXIT}  # fmt: skip
    ours = {name: len(calls(recording, nr)) for name, nr in numbers.items()}
    # The read at the gate is in flight when either attaches, which may or may not show its end.
    assert abs(ours.pop("read") - theirs.pop("read")) <= 1
    assert ours == {name: theirs[name] for name in ours}
