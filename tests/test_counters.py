"""Hardware counters: how readings are added up, that threads are followed, and what becomes of them in a certificate.

A virtual machine mostly has no PMU.  The mechanism is tried with the kernel's software events, which go the same way;
the figures with the readings of ``tests/data/counters``, of two threads each, made up in the kernel's read format.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ditto.artifacts.fidelity import Fidelity, Record
from ditto.host import counters
from ditto.host.counters import Counters, Counts, Event, Mode, counts_of, events_of
from ditto.host.usage import Usage
from ditto.report.text import grouped, label_of
from ditto.validate.hardware import hardware_figures
from ditto.validate.runs import Side, TimedRun

DATA = Path(__file__).parent / "data" / "counters"
FAULTS = Event("faults", 1, 2)  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS
TOUCH = """
import mmap, sys, threading
sys.stdin.readline()
def touch():
    pages = mmap.mmap(-1, 6000 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(6000):
        pages[page * 4096] = 1
thread = threading.Thread(target=touch)
thread.start(), thread.join()
touch()
print("done", flush=True)
sys.stdin.readline()
"""


def reading(value: int, enabled: int = 10, running: int = 10) -> bytes:
    return struct.pack("<QQQ", value, enabled, running)


def test_a_count_stands_for_the_time_in_which_others_had_its_counter() -> None:
    found = counts_of(
        [
            (("cycles", "user"), reading(100)),
            (("cycles", "user"), reading(50)),
            (("l2_misses", "user"), reading(30, 1000, 250)),
            (("l2_misses", "user"), reading(0, 0, 0)),  # a thread that never ran
            (("llc_misses", "kernel"), reading(5, 100_000, 1)),
            (("cycles", "kernel"), b""),
        ]
    )
    assert found.values == {("cycles", "user"): 150, ("l2_misses", "user"): 120}
    assert found.running == 0.25 and "0.00%" in found.missing["llc_misses", "kernel"]
    assert counts_of([]).reason and not found.reason


def test_l2_is_an_event_of_the_vendors_own() -> None:
    names = {event.name for event in events_of("")}
    assert {event.name for event in events_of("GenuineIntel")} - names == {"l2_misses"}
    assert len({(event.kind, event.config) for event in events_of("AuthenticAMD")}) == len(names) + 1


def test_threads_alive_and_born_later_are_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TOUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        with Counters([child.pid], [FAULTS]) as measured:
            print("go", file=child.stdin, flush=True)
            assert child.stdout.readline() == "done\n"
        print("end", file=child.stdin, flush=True)
    if not measured.counts.values:
        pytest.skip(measured.counts.reason)
    assert 12_000 <= measured.counts.values["faults", "user"] < 14_000  # and what Python itself takes
    assert measured.counts.running == 1.0 and not measured.counts.missing


def test_an_event_that_there_is_not_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the sum of some threads alone is no figure."""
    before = set(os.listdir("/proc/self/fd"))
    seen: list[Mode] = []

    def refused(event: Event, mode: Mode, task: int) -> int:
        seen.append(mode)
        if event.name == "cycles" or len(seen) % 2:
            return os.open("/dev/null", os.O_RDONLY)
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(counters, "open_counter", refused)
    monkeypatch.setattr(counters, "threads_of", lambda pid: [pid, pid + 1])
    with Counters([os.getpid()], events_of("")[:2]) as measured:
        pass
    assert measured.counts.missing == {
        ("instructions", mode): "No such file or directory" for mode in ("user", "kernel")
    }
    assert set(os.listdir("/proc/self/fd")) == before


def recorded(side: Side, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Counts:
    """Counts as if the descriptors had given what is in the file."""
    readings = json.loads((DATA / f"{side}.json").read_text())

    def opened(event: Event, mode: Mode, task: int) -> int:
        if f"{event.name}.{mode}" not in readings:
            raise OSError(2, "No such file or directory")
        path = folder / f"{event.name}.{mode}.{task}"
        path.write_bytes(struct.pack("<QQQ", *readings[f"{event.name}.{mode}"][task]))
        return os.open(path, os.O_RDONLY)

    monkeypatch.setattr(counters, "open_counter", opened)
    monkeypatch.setattr(counters, "threads_of", lambda _: [0, 1])
    with Counters([os.getpid()], events_of("GenuineIntel")) as measured:
        pass
    return measured.counts


def timed(side: Side, counts: Counts) -> TimedRun:
    return TimedRun(side, 1.0, 100_000, "counted", Usage(1, 1, 0, 0, 0, 0, 0, counts=counts), 1 << 20, 1, 2)


def test_recorded_counters_become_figures_of_both_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sides: tuple[Side, ...] = ("original", "clone")
    runs = [timed(side, recorded(side, monkeypatch, tmp_path)) for _ in range(3) for side in sides]
    figures, unavailable = hardware_figures(runs, 1)
    assert not unavailable and all(record.group == "hardware" for record in figures.records)
    found = {record.metric.removeprefix("hardware."): record for record in figures.records}

    def close(record: Record, original: float) -> bool:
        return record.original == pytest.approx(original, rel=1e-3)

    assert close(found["ipc_user"], 36 / 30) and close(found["ipc_kernel"], 40 / 52)
    assert close(found["instructions_per_request_user"], 36_000)
    assert found["instructions_per_request_user"].error == pytest.approx(0.04, abs=1e-4)
    assert close(found["l1i_misses_kernel"], 2100 / 40) and close(found["l2_misses_user"], 160 / 36)
    assert found["llc_misses_user"].error == pytest.approx(0.0, abs=1e-4)
    assert "at least 50% of the time" in found["branch_misses_user"].how
    missing = found["itlb_misses_user"]
    assert missing.original is None and "No such file" in missing.how


def test_the_report_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = [timed(side, recorded(side, monkeypatch, tmp_path)) for side in ("original", "clone")]
    records = list(hardware_figures(runs, 1)[0].records)
    ((title, shown),) = grouped(Fidelity.model_construct(records=records))
    assert title == "Hardware counters" and len(shown) == len(records)
    assert label_of(records[0]) == "Instructions per cycle, user mode"
    assert len({label_of(record) for record in records}) == len(records)
    assert not any(label_of(record).startswith("hardware.") for record in records)


def test_without_counters_the_certificate_says_so() -> None:
    none = Counts(missing={("cycles", "user"): "No such file or directory"})
    figures, (unavailable,) = hardware_figures([timed("original", none), timed("clone", none)], 1)
    assert not figures.records and unavailable.why == "No such file or directory" and "doctor" in unavailable.remedy
    assert hardware_figures([timed("original", Counts())], 1)[1][0].why
