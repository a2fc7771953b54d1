"""Samples of the CPU clock: how records are read, and that user and kernel time are told apart."""

from __future__ import annotations

import struct
import subprocess
import sys
import time

import pytest

from ditto.host.cpu_clock import CpuClock, samples_of

USER = "while True: pass"
KERNEL = "import os\nzero = os.open('/dev/zero', os.O_RDONLY)\nwhile True: os.read(zero, 1 << 20)"


def record(mode: int, pid: int) -> bytes:
    return struct.pack("<IHHII", 9, mode, 16, pid, pid)


def test_records_that_are_no_samples_are_stepped_over() -> None:
    lost = struct.pack("<IHHQQ", 2, 0, 24, 1, 7)
    throttled = struct.pack("<IHHQQQ", 5, 0, 32, 0, 0, 0)
    forked, thread = (struct.pack("<IHHIIIIQ", 7, 0, 32, pid, 7, 9, 7, 5) for pid in (8, 7))
    data = record(2, 7) + lost + record(1, 7) + forked + record(2, 8) + thread + throttled + record(2, 7) + record(4, 7)
    assert samples_of(data) == ({(7, True): 2, (7, False): 1, (8, True): 1}, {8: 7})
    assert samples_of(b"") == ({}, {}) and samples_of(lost) == ({}, {})


def test_processes_that_were_born_and_ended_meanwhile_count_as_their_parents() -> None:
    busy = "  end = time.time() + 0.3\n  while time.time() < end: pass\n  os._exit(0)"
    code = f"import os, time\nif os.fork() == 0:\n{busy}\nos.wait()"
    with CpuClock() as clock, subprocess.Popen([sys.executable, "-c", code]) as parent:
        parent.wait()
    share = clock.user_share([parent.pid])
    if clock.reason:
        assert share is None
        pytest.skip(clock.reason)
    assert share is not None and share > 0.5
    assert sum(clock._seen[pid, True] for pid in {parent.pid, *clock._parents}) > 3 * clock._seen[parent.pid, True]


def test_user_and_kernel_time_are_told_apart() -> None:
    shares = {}
    for name, code in (("user", USER), ("kernel", KERNEL)):
        with subprocess.Popen([sys.executable, "-c", code]) as child:
            time.sleep(0.1)
            with CpuClock() as clock:
                time.sleep(0.5)
            child.kill()
            shares[name] = clock.user_share([child.pid])
        if clock.reason:
            assert shares[name] is None
            pytest.skip(clock.reason)
    user, kernel = shares["user"], shares["kernel"]
    assert user is not None and kernel is not None
    assert user > 0.7 and kernel < 0.2


def test_a_process_that_is_not_there_has_no_share() -> None:
    with CpuClock() as clock:
        time.sleep(0.02)
    assert clock.user_share([]) is None and clock.user_share([2**31 - 1]) is None
