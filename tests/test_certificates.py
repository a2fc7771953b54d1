"""Two certificates side by side: what differs beside the clones is flagged."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ditto.artifacts.certificates import compared
from ditto.cli.main import app
from report_parts import full_fidelity


def test_the_same_certificate_has_no_flags_and_every_metric() -> None:
    fidelity = full_fidelity()
    found = compared(fidelity, fidelity)
    assert found.flags == ()
    assert [pair.metric for pair in found.pairs] == [record.metric for record in fidelity.records]
    assert all(pair.first == pair.second for pair in found.pairs)


def test_another_machine_and_load_are_flagged(tmp_path: Path) -> None:
    first = full_fidelity()
    second = first.model_copy(
        update={
            "machine": first.machine.model_copy(update={"cpus": 64, "kernel": "7.0"}),
            "conditions": first.conditions.model_copy(update={"connections": 7}),
            "records": first.records[1:],
        }
    )
    first.save(tmp_path / "a.json")
    second.save(tmp_path / "b.json")
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 0
    assert "machine: cpus: 2 against 64" in done.output
    assert "machine: kernel: 6.1 against 7.0" in done.output
    assert "conditions: connections: 20 against 7" in done.output
    assert "cannot be held against each other" in done.output
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json"])
    rows = json.loads(done.output)["metrics"]
    assert rows[0]["metric"] == first.records[0].metric
    assert rows[0]["first"]["original"] == first.records[0].original and rows[0]["second"] is None
