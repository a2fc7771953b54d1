"""Where in files reads go: kinds of places told apart from few accesses, and drawn by a clone as they were told."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ditto.artifacts.profile import Dist
from ditto.model.access import Place, fit_access
from runtime_build import build_clone, receive, running
from strace_parts import whole_calls

UNIT = 8192
PLACES = 20_000


def drawn(number: int, hot: float, tenth: float, seed: int = 3) -> list[Place]:
    """Reads of which a share goes to a part of the places, scattered over the file."""
    generator = np.random.default_rng(seed)
    scattered = generator.permutation(PLACES)
    ranks = np.where(
        generator.random(number) < hot,
        generator.integers(int(PLACES * tenth), size=number),
        generator.integers(PLACES, size=number),
    )
    return [Place(1, int(scattered[rank]) * UNIT, UNIT) for rank in ranks]


def held(where: Dist, places: int, hits: int = 0) -> float:
    """Share of accesses that find their place among the ``places`` hottest."""
    found, before = 0.0, 0
    for end, share in zip(where.values, where.weights, strict=True):
        found += share * min(1.0, max(0, places - before) / (end - before))
        before = end
    return found / sum(where.weights)


@pytest.mark.parametrize("number", [2_000, 20_000, 100_000])
def test_a_hot_part_is_found_however_few_the_reads_are(number: int) -> None:
    access = fit_access(drawn(number, 0.7, 0.1), PLACES * UNIT)
    assert access is not None and access.unit == UNIT and access.onward == 0
    assert access.where.values[-1] == PLACES
    for part, expected in ((0.1, 0.73), (0.05, 0.365), (0.55, 0.865)):
        assert held(access.where, int(part * PLACES)) == pytest.approx(
            expected, abs=0.1 if number < PLACES else 0.04
        ), part


@pytest.mark.parametrize("number", [300, 30_000])
def test_even_reads_have_no_hot_part(number: int) -> None:
    access = fit_access(drawn(number, 0.0, 0.1), PLACES * UNIT)
    assert access is not None
    assert held(access.where, PLACES // 10) == pytest.approx(0.1, abs=0.03)


def test_reads_that_go_on_are_told_by_thread() -> None:
    places = [Place(tid, at * 512, 512) for at in range(100) for tid in (4, 5)]
    access = fit_access(places, 1 << 20)
    assert access is not None and (access.unit, access.onward) == (512, 990)
    assert fit_access([], 1 << 20) is None and fit_access(places, 0) is None


def test_one_place_is_one_kind() -> None:
    access = fit_access([Place(1, 0, 100)] * 50, 4000)
    assert access is not None and access.where.values == [1]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_reads_where_it_is_told(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "plain", "places", mode=("-O2", "-static"))
    log = tmp_path / "calls"
    small = (12).to_bytes(4, "big") + b"\xff\xff\0\xd7" + b"abcd"
    with running(binary) as clone, clone.connect() as sock:
        tracer = subprocess.Popen(
            [
                "strace",
                "-qq",
                "-f",
                "-p",
                str(clone.process.pid),
                "-e",
                "trace=pread64,fsync,fstat,lseek",
                "-o",
                str(log),
            ]
        )
        time.sleep(0.5)
        for _ in range(1500):
            sock.sendall(small)
            assert len(receive(sock, 20)) == 20
        tracer.terminate()
        tracer.wait()
    seen = [tuple(map(int, found)) for found in re.findall(r", (\d+), (\d+)\) += \1\n", whole_calls(log))]
    assert len(seen) == 1500
    offsets = [offset for _, offset in seen]
    assert all(offset % UNIT == 0 and offset + UNIT <= 1000 * UNIT for offset in offsets)
    onward = sum(b == a + UNIT for a, b in itertools.pairwise(offsets))
    assert onward == pytest.approx(300, abs=70)
    hottest = sum(count for _, count in Counter(offsets).most_common(20))
    assert hottest == pytest.approx(0.8 * 0.5 * 1500, rel=0.2)  # half of the jumps go to 20 places of 1000
    assert len(set(offsets)) > 400
    calls = "".join(
        {"pread64": " ", "fsync": "s", "fstat": "t", "lseek": "k"}[name]
        for name in re.findall(r"\b(pread64|fsync|fstat|lseek)\(", whole_calls(log))
    )
    after = Counter(calls.split(" ")[1:])  # 0.4 of the reads, 0.3 and the rest
    assert set(after) == {"sk", "t", ""}
    assert after["sk"] == pytest.approx(600, abs=80) and after["t"] == pytest.approx(450, abs=80)
