"""The report: complete, escaped, and quiet in a browser."""

from __future__ import annotations

import html
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ditto.artifacts.fidelity import Conditions, Fidelity, Samples, load_fidelity
from ditto.host.commands import find_program
from ditto.report import render
from ditto.report.tuning import tuning_effects
from ditto.validate.statistics import make_record
from report_parts import HOSTILE, full_fidelity

VOID = {"meta", "link", "br", "wbr", "img", "input"}


class Page(HTMLParser):
    """Collects the tags and the text of a page, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_it_renders_from_the_file_alone_and_shows_every_record(tmp_path: Path) -> None:
    full_fidelity().save(tmp_path / "fidelity.json")
    fidelity = load_fidelity(tmp_path / "fidelity.json")
    page = Page(render(fidelity))
    assert page.open == []
    for record in fidelity.records:
        assert record.metric in page.words
        assert record.how in page.words
    for row in fidelity.syscall_table:
        assert row.name in page.words
    assert page.words.count("Numbers") == 6  # a table behind each curve and timeline, and one for the latency
    assert "12345" in page.words  # what was dropped


def test_histograms_and_timelines_are_drawn_from_the_file() -> None:
    fidelity = full_fidelity()
    text = render(fidelity)
    words = Page(text).words
    assert "Reads of a register after its write" in words and "70.00 %" in words and "+5.00" in words
    assert "Writes of a register after its write" not in words  # only one side has it
    # Of the busiest cell, which has the fullest colour: 0.5 twice, 1.0 once.
    assert text.count('fill-opacity="0.54"') == 2 and text.count('fill-opacity="1.00"') == 1 and "100.00 % of" in words
    assert "3 more, less busy ones" in words and "0.075 s" in words and "0.072 s" in words
    without = render(fidelity.model_copy(update={"histograms": [], "timeline": None}))
    assert "fill-opacity" not in without and "Branches and dependences" in without


def test_each_figure_is_told_without_tuning_and_with_it() -> None:
    effects = {e.name: (e.without, e.tuned) for e in tuning_effects(full_fidelity(text="x").tuning)}
    assert effects == {"x": ("7.5", "0.5"), "loads": ("3.0", "1.2"), "x, relative": ("+42.0 %", "\N{MINUS SIGN}3.0 %")}
    words = Page(render(full_fidelity())).words
    assert "Without" in words and "Tuned" in words
    assert tuning_effects([]) == []


def test_nothing_of_the_app_becomes_markup() -> None:
    text = render(full_fidelity(app=HOSTILE, text=HOSTILE))
    page = Page(text)
    assert page.open == []
    assert not page.of("script")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert "{{ 7*7 }}" in page.words and "49" not in re.findall(r"\b49\b", page.words.split("Key figures")[0])
    assert HOSTILE in page.words
    assert html.escape("<script>", quote=False) in text


def test_it_asks_nothing_of_the_network() -> None:
    text = render(full_fidelity())
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert attributes.get(name) in (None, "data:,")
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    policy = [m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in str(policy[0])


def test_tables_have_headers_and_plots_have_titles() -> None:
    page = Page(render(full_fidelity()))
    assert all(a.get("scope") for a in page.of("th"))
    plots = [a for a in page.of("svg") if a.get("role") == "img"]
    assert plots and all(a.get("aria-label") for a in plots)
    assert len(page.of("title")) == len(plots) + 1 and len(page.of("desc")) == len(plots)
    # What scrolls can be reached and scrolled by keyboard.
    regions = [a for a in page.of("div") if a.get("class") == "scroll"]
    assert regions and all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


def test_the_verdict_comes_first_and_says_what_is_outside() -> None:
    text = re.sub(r"\s+", " ", Page(render(full_fidelity())).words)
    first = text[text.index("judged figures") - 12 :]
    assert first.index("outside") < first.index("Key figures")
    assert "CPU time per request, user +36.7" in first[: first.index("Key figures")]


def test_a_comparison_with_nothing_in_it_still_renders() -> None:
    conditions = Conditions(
        connections=1, rounds=1, seconds=1.0, requests=0, load="client", counted="asked", order="A B"
    )
    page = Page(render(Fidelity(app="empty", when="now", conditions=conditions, records=[])))
    assert "No figure could be judged." in page.words
    assert page.words.count("Not available here") == 5


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--force-dark-mode"]], ids=["light", "dark"])
def test_a_browser_opens_it_without_a_complaint(tmp_path: Path, flags: list[str]) -> None:
    browser = find_program("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    page = tmp_path / "report.html"
    page.write_text(render(full_fidelity(text=HOSTILE)), encoding="utf-8")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--v=0", *flags, "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    assert said == []
    assert b"instructions.user_per_request" in re.sub(rb"<wbr>", b"", done.stdout)


def test_tiers_and_their_calls_are_drawn_and_named() -> None:
    edge = Samples(original=[1.29, 1.29], clone=[1.31, 1.31])
    tiers = {"tier-1": Samples(original=[54e3], clone=[60e3]), "tier-2": Samples(original=[17e3], clone=[18e3])}
    records = [make_record(f"tier.{n}.cpu.per_request", "ns", "tiers", s, "measured: x") for n, s in tiers.items()]
    records.append(make_record("edge.tier-1.tier-2.calls_per_request", "calls", "edges", edge, "measured: x"))
    fidelity = full_fidelity()
    assert "Calls between tiers" not in render(fidelity, None, None)
    page = render(fidelity.model_copy(update={"records": [*fidelity.records, *records]}), None, None)
    drawn = page[page.index('<svg class="tiers"') :]
    assert drawn.count('<rect class="tier"') == 2
    assert "54.0 → 60.0 µs" in drawn and "1.29 → 1.31 (+1.55" in drawn
    assert "tier-1 to tier-2, calls per request" in page and "tier-2, CPU time per request" in page
