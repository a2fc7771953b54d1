"""The fidelity artifact: verdicts, counts, loading, and what it leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.fidelity import Conditions, Fidelity, Record, Samples, load_fidelity, without_paths
from ditto.artifacts.verdict import Bound, Verdict, judge
from ditto.errors import BadInputError, FormatVersionError

CONDITIONS = Conditions(
    connections=20, rounds=3, seconds=1.0, requests=1000, load="client", counted="asked", order="A B A B A B"
)


def record(metric: str, verdict: Verdict = Verdict.INSIDE_BOUND, **values: object) -> Record:
    return Record.model_validate(
        {"metric": metric, "unit": "ns", "group": "cpu", "how": "measured: here", "verdict": verdict, **values}
    )


def test_judging_a_relative_error() -> None:
    bound = Bound(relative=0.1)
    assert judge(None, "relative", 1.0, 0.1, bound) is Verdict.NOT_AVAILABLE
    assert judge(-0.02, "relative", 1.0, 0.03, bound) is Verdict.INSIDE_NOISE
    assert judge(-0.09, "relative", 1.0, 0.03, bound) is Verdict.INSIDE_BOUND
    assert judge(0.11, "relative", 1.0, 0.03, bound) is Verdict.OUTSIDE
    assert judge(0.11, "relative", 1.0, None, bound) is Verdict.OUTSIDE
    assert judge(0.11, "relative", 1.0, 0.03, None) is Verdict.NO_BOUND


def test_any_part_of_a_bound_is_enough() -> None:
    bound = Bound(relative=0.03, absolute=0.01)
    # 5 % of 0.15 calls is 0.0075 of a call.
    assert judge(0.05, "relative", 0.15, 0.0, bound) is Verdict.INSIDE_BOUND
    assert judge(0.05, "relative", 0.5, 0.0, bound) is Verdict.OUTSIDE
    assert judge(0.009, "absolute", 0.0, 0.0, bound) is Verdict.INSIDE_BOUND
    # A relative bound says nothing about an absolute error.
    assert judge(0.02, "absolute", 0.0, 0.0, bound) is Verdict.OUTSIDE
    waiting = Bound(relative=0.03, noise_multiple=2.0)
    assert judge(0.19, "relative", 1.0, 0.10, waiting) is Verdict.INSIDE_BOUND
    assert judge(0.21, "relative", 1.0, 0.10, waiting) is Verdict.OUTSIDE


def test_the_summary_counts_every_verdict_and_noise_that_hides_the_bound() -> None:
    records = [
        record("a", Verdict.INSIDE_NOISE, bound=Bound(relative=0.1), error=0.01, noise=0.02),
        record("b", Verdict.INSIDE_NOISE, bound=Bound(relative=0.1), error=0.01, noise=0.5),
        record("c", Verdict.OUTSIDE),
        record("d", Verdict.NO_BOUND),
        record("e", Verdict.NOT_AVAILABLE),
        record("f", Verdict.INSIDE_BOUND),
    ]
    summary = Fidelity(app="x", when="2026-01-01T00:00:00+00:00", conditions=CONDITIONS, records=records).summary
    assert (summary.inside_noise, summary.inside_bound, summary.outside) == (2, 1, 1)
    assert (summary.no_bound, summary.not_available, summary.too_noisy, summary.judged) == (1, 1, 1, 4)


def test_beyond_takes_the_error_that_is_asked_for() -> None:
    bound = Bound(relative=0.1)
    records = [
        record("near", error=0.04, noise=0.01, bound=bound),
        record("far", error=-0.08, noise=0.01, bound=bound),
        record("noisy", error=0.08, noise=0.2, bound=bound),
        record("free", error=0.9, noise=0.2),
        record("bad", Verdict.OUTSIDE, error=0.5, noise=0.01, bound=bound),
    ]
    fidelity = Fidelity(app="x", when="now", conditions=CONDITIONS, records=records)
    assert [r.metric for r in fidelity.beyond(0.05)] == ["far", "bad"]
    assert [r.metric for r in fidelity.beyond()] == ["bad"]


def test_saved_and_loaded_again_it_is_the_same(tmp_path: Path) -> None:
    raw = {"a": Samples(original=[1.0, 2.0], clone=[3.0])}
    fidelity = Fidelity(app="x", when="now", conditions=CONDITIONS, records=[record("a", error=0.5)], raw=raw)
    fidelity.save(tmp_path / "fidelity.json")
    assert load_fidelity(tmp_path / "fidelity.json") == fidelity


def test_files_that_are_no_fidelity_are_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "fidelity.json"
    with pytest.raises(BadInputError, match=r"fidelity\.json"):
        load_fidelity(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInputError, match="not JSON"):
        load_fidelity(path)
    path.write_text('{"format_version": 7}', encoding="utf-8")
    with pytest.raises(FormatVersionError, match="7 found, version 1 expected"):
        load_fidelity(path)
    good = Fidelity(app="x", when="now", conditions=CONDITIONS, records=[record("a")])
    data = json.loads(good.model_dump_json())
    data["records"][0]["unit"] = 3
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"records\.0\.unit"):
        load_fidelity(path)


def test_a_load_command_is_shown_without_paths() -> None:
    words = [
        "/opt/acme/bin/wrk", "-c", "20", "-s", "/home/me/script.lua", "--data=/etc/secret", "http://127.0.0.1:{port}/a/b",
        "two words",
    ]  # fmt: skip
    assert without_paths(words) == "wrk -c 20 -s {path} --data={path} {url} {text}"


def test_the_table_takes_every_example_of_one_service() -> None:
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "fidelity.py"), "redis", "nonesuch"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "no example of one service: nonesuch;" in run.stderr
    known = set(run.stderr.replace(",", " ").split())
    assert {path.stem for path in (root / "examples").glob("*.toml")} <= known


def test_loads_that_no_clone_is_made_from_are_of_the_same_client() -> None:
    found = []
    for path in sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.toml")):
        data = tomllib.loads(path.read_text())
        if (own := data.get("x-unseen")) is not None:
            found.append(path.stem)
            assert own["command"][0] == data["load"]["command"][0]
            assert own["connections"] != data["load"]["connections"]
            load_app(path)
    assert {"redis", "memcached", "nginx", "php", "fastapi"} <= set(found)
