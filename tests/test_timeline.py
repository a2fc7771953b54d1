"""When threads ran: what is seen of one that works and one that waits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from ditto.artifacts.fidelity import ThreadLine
from ditto.host.app import AppRun
from ditto.host.timeline import ThreadWatch
from ditto.validate.counting import MOST_LINES, CountedRun, Counting

HALF = """
import sys, threading, time
threading.Thread(target=sys.stdin.readline, daemon=True).start()
print("up", flush=True)
time.sleep(0.5)
until = time.monotonic() + 0.5
while time.monotonic() < until: pass
print("done", flush=True)
sys.stdin.readline()
"""


class OneProcess:
    """As much of a run as is looked at."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def pids(self) -> list[int]:
        return [self._pid]


def test_a_thread_is_busy_when_it_works() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not tell the run time of threads")
    with subprocess.Popen(
        [sys.executable, "-c", HALF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with ThreadWatch(cast(AppRun, OneProcess(child.pid))) as watch:
            child.stdout.readline()
        child.kill()
    busy = watch.busy(10)
    assert len(busy) == 2 and 0.9 < watch.seconds < 3.0
    worked, waited = busy[child.pid, child.pid], next(v for (_, tid), v in busy.items() if tid != child.pid)
    assert waited.sum() < 0.2
    assert float(np.sum(worked[5:])) > 5 * float(np.sum(worked[:4])) and worked.sum() > 0.1  # of a processor it shares


def test_a_process_that_has_ended_is_no_error() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", ""]) as child,
        ThreadWatch(cast(AppRun, OneProcess(child.pid))) as watch,
    ):
        child.wait()
        time.sleep(0.05)
    assert all(0 <= value <= 1 for line in watch.busy(4).values() for value in line)


def counted(side: str, lines: int) -> CountedRun:
    busy = tuple(ThreadLine(role="serves" if n % 2 else "idle", busy=[n / 100]) for n in range(lines))
    return CountedRun(side, 1.0, {}, {}, 0, busy, 25.0)  # type: ignore[arg-type]


def test_the_busiest_threads_are_kept_by_what_they_do() -> None:
    timeline = Counting((counted("original", 2), counted("clone", MOST_LINES + 6))).timeline()
    assert timeline is not None and (timeline.original_more, timeline.clone_more) == (0, 6)
    assert [line.role for line in timeline.original] == ["serves", "idle"]
    assert len(timeline.clone) == MOST_LINES and min(line.busy[0] for line in timeline.clone) == 0.06
    assert timeline.clone[0].role == "serves" and timeline.clone[0].busy[0] == (MOST_LINES + 5) / 100
    assert Counting((counted("original", 0), counted("clone", 2))).timeline() is None
