"""Instructions of both sides: the arithmetic, and whole runs under the lens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app_parts import processes_in, write_app
from ditto.artifacts.lens import BUCKETS
from ditto.artifacts.verdict import Verdict
from ditto.validate import ValidateOptions, validate
from ditto.validate.instructions import SIZES, miss_ratios
from test_validate_run import clone_of


def test_a_cache_of_a_size_hits_all_shorter_distances() -> None:
    histogram = np.zeros(BUCKETS)
    histogram[0] = 50  # the same line again: any cache hits
    histogram[3] = 30  # 4 to 7 other lines: 8 lines are enough, 4 are not
    histogram[23] = 20  # first touches: no cache hits
    ratios = dict(zip(SIZES, miss_ratios(histogram), strict=True))
    assert ratios[64] == pytest.approx(0.5)
    assert ratios[4 * 64] == pytest.approx(0.5)
    assert ratios[8 * 64] == pytest.approx(0.2)
    assert ratios[128 << 20] == pytest.approx(0.2)
    assert miss_ratios(np.zeros(BUCKETS)) == []


def test_without_the_instruments_everything_else_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DITTO_NATIVE", str(tmp_path / "nothing"))
    spec = write_app(tmp_path)
    quick = ValidateOptions(rounds=1, seconds=0.2, empty_body=False)
    fidelity = validate(spec, clone_of(spec, tmp_path / "clone"), quick)
    for metric in ("instructions.user_per_request", "syscalls.total", "bytes.sent_per_request"):
        record = fidelity.record(metric)
        assert record is not None and record.verdict is Verdict.NOT_AVAILABLE
        assert record.how.startswith("not available here: ") and "not built" in record.how
    assert {u.what for u in fidelity.unavailable} >= {
        "instructions, instruction mix and miss ratios", "system calls and bytes per request",
    }  # fmt: skip
    assert all("make -C native" in u.remedy for u in fidelity.unavailable if "not built" in u.why)
    cpu = fidelity.record("cpu.ns_per_request")
    assert cpu is not None and cpu.clone is not None and cpu.clone > 0


@pytest.mark.valgrind
@pytest.mark.slow
def test_a_clone_that_computes_more_is_found_out(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    clone = clone_of(spec, tmp_path / "clone", "    sum(range(100000))\n")
    quick = ValidateOptions(rounds=1, seconds=0.2, count=False, empty_body=False)
    fidelity = validate(spec, clone, quick)
    record = fidelity.record("instructions.user_per_request")
    assert record is not None and record.original is not None and record.original > 1000
    assert record.noise is not None and record.noise < 0.3  # the original runs twice
    assert record.error is not None and record.error > 1
    assert record.verdict is Verdict.OUTSIDE
    assert [curve.name for curve in fidelity.curves] == ["loads", "stores", "code"]
    for curve in fidelity.curves:
        assert len(curve.original) == len(curve.clone) == len(curve.sizes_bytes)
        assert all(a >= b for a, b in zip(curve.clone, curve.clone[1:], strict=False))
    assert sum(share.original for share in fidelity.mix) == pytest.approx(1.0)
    assert sum(share.clone for share in fidelity.mix) == pytest.approx(1.0)
    assert not processes_in(tmp_path)
