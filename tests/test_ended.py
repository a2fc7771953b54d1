"""Context switches of tasks that ended: what the kernel's messages say, whose they are, and that they are complete."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from ditto.host.ended import Ended, EndedTasks, family_of, switches_of, tasks_in


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(version: int, size: int = 560) -> bytes:
    stats = bytearray(size)
    struct.pack_into("=H", stats, 0, version)
    struct.pack_into("=II", stats, 128, 77, 7)
    struct.pack_into("=QQ", stats, 272, 40, 2)
    if size > 372:
        struct.pack_into("=I", stats, 368, 70)
    task = attribute(4, attribute(1, struct.pack("=I", 77)) + attribute(3, bytes(stats)))
    group = attribute(5, attribute(2, struct.pack("=I", 70)) + attribute(3, bytes(stats)))
    body = struct.pack("=BBH", 2, 1, 0) + task + group
    return struct.pack("=IHHII", 16 + len(body), 31, 0, 0, 0) + body


def test_a_message_tells_of_one_task_and_perhaps_its_group() -> None:
    assert list(tasks_in(message(16))) == [Ended(70, 7, 40, 2)]
    # An older kernel does not tell whose thread it was; version 15 has its fields elsewhere.
    assert not list(tasks_in(message(10, 352))) and not list(tasks_in(message(15)))
    assert not list(tasks_in(b"")) and not list(tasks_in(message(16)[:40]))


def test_what_a_known_process_began_is_its_own() -> None:
    ended = [Ended(5, 4, 100, 10), Ended(4, 1, 20, 2), Ended(9, 8, 1000, 1000), Ended(1, 0, 3, 1)]
    assert switches_of(ended, [1]) == (123, 13)
    assert switches_of(ended, [4]) == (120, 12)
    assert switches_of(ended, []) == (0, 0)
    assert family_of(ended, [1, 2]) == {1, 2, 4, 5}


def test_threads_and_children_that_ended_are_counted() -> None:
    code = (
        "import os, threading, time\n"
        "def nap():\n  for _ in range(50): time.sleep(0.001)\n"
        "thread = threading.Thread(target=nap)\nthread.start()\nthread.join()\n"
        "if os.fork() == 0:\n  nap()\n  os._exit(0)\n"
        "os.wait()\n"
    )
    with EndedTasks() as ended, subprocess.Popen([sys.executable, "-c", code]) as parent:
        parent.wait()
    if not ended.found:
        pytest.skip("this kernel does not tell of tasks that end, or not us")
    voluntary, _ = switches_of(ended.found, [parent.pid])
    assert 100 <= voluntary < 200
