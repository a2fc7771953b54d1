"""The report's section on studies: complete, escaped, drawn from the file alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ditto.artifacts.fidelity import load_fidelity
from ditto.artifacts.study import load_studies, study_file
from ditto.artifacts.study_kind import StudyKind
from ditto.host.commands import find_program
from ditto.pipeline import keep_studies
from ditto.report import render
from ditto.report.study_plots import Place, curves, spread
from report_parts import HOSTILE, full_fidelity
from study_parts import cores_study, interference_study
from test_report import Page


def test_it_shows_every_study_that_lies_there(tmp_path: Path) -> None:
    for made in (cores_study(), interference_study()):
        made.save(study_file(tmp_path, made.kind))
    page = Page(render(full_fidelity().model_copy(update={"studies": load_studies(tmp_path)})))
    assert page.open == []
    words = re.sub(r"\s+", " ", page.words)
    assert words.index("A busy neighbour") < words.index("Less CPU time")
    assert "1 of 2 judged changes of the clone are within 10 points" in words
    assert "Outside: Requests answered, 0.25 cores client -c 20: +20.0 points." in words
    assert "not available" in words  # of a side without figures
    for record in cores_study().records:
        assert record.how in page.words
    plots = [a["aria-label"] for a in page.of("svg") if a.get("class") == "plot"]
    assert sum("Requests answered" in str(label) for label in plots) == 1


def test_without_studies_there_is_no_section() -> None:
    assert "Studies" not in Page(render(full_fidelity())).words


def test_nothing_of_a_study_becomes_markup() -> None:
    studies = [interference_study(HOSTILE), cores_study(app=HOSTILE, text=HOSTILE)]
    page = Page(render(full_fidelity().model_copy(update={"studies": studies})))
    assert page.open == []
    assert not page.of("script")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert HOSTILE in page.words
    assert all(a.get("scope") for a in page.of("th"))
    regions = [a for a in page.of("div") if a.get("class") == "scroll"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


def test_curves_lie_where_the_figures_are() -> None:
    places = [Place(0.0, "a", [1.0], [2.0]), Place(0.5, "b", [3.0, 4.0, 8.0], []), Place(1.0, "c", [10.0], [10.0])]
    drawn = str(curves(places, "axis", "title", lambda value: f"{value:g}"))
    lines = re.findall(r'<polyline class="curve line-(\w+)" points="([^"]*)"', drawn)
    # From 0 to 10 from below: a value of 1 is at nine tenths of the height; the clone has no figure in the middle.
    assert lines == [
        ("original", "0.0,900.0 500.0,600.0 1000.0,0.0"),
        ("clone", "0.0,800.0 1000.0,0.0"),
    ]
    assert '<polygon class="band-original" points="0.0,900.0 500.0,200.0' in drawn
    wide = [Place(0.0, "a", [1.0], [1.0]), Place(1.0, "b", [1000.0], [100.0])]
    assert 'points="0.0,1000.0 1000.0,333.3"' in str(curves(wide, "axis", "title", str))
    assert curves(places[:1], "axis", "title", str) == ""


def test_labels_that_do_not_fit_are_left_out() -> None:
    assert spread(["1", "2", "3"], [0.0, 0.5, 1.0]) == ["1", "2", "3"]
    assert spread(["1", "2", "3", "4"], [0.0, 0.8, 0.9, 1.0]) == ["1", "2", "", "4"]
    many = spread([str(number) for number in range(30)], [number / 29 for number in range(30)])
    assert len(many) == 30 and 5 <= len([label for label in many if label]) <= 8 and many[-1] == "29"


@pytest.mark.slow
def test_a_browser_opens_it_without_a_complaint(tmp_path: Path) -> None:
    browser = find_program("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    page = tmp_path / "report.html"
    studies = [cores_study(text=HOSTILE), interference_study(HOSTILE)]
    page.write_text(render(full_fidelity().model_copy(update={"studies": studies})))
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=400,900"]
    words += [f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run([*words, page.as_uri()], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0
    assert [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line] == []
    assert b'id="study-cores"' in done.stdout


def test_a_certificate_keeps_the_studies_that_lie_beside_it(tmp_path: Path) -> None:
    full_fidelity().save(tmp_path / "fidelity.json")
    cores_study().save(study_file(tmp_path, StudyKind.CORES))
    keep_studies(tmp_path)
    kept = load_fidelity(tmp_path / "fidelity.json")
    assert [study.kind for study in kept.studies] == [StudyKind.CORES]
    assert "Less CPU time" in Page(render(kept)).words
