"""``ditto topology`` as a command, and the page that ``--plot`` draws."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ditto.artifacts.graph import Edge, EdgeKind, Endpoint, Graph, Service, ServiceKind, load_graph
from ditto.cli.main import run_guarded
from ditto.plot import page_of
from ditto.plot.layout import places
from ditto.plot.view import duration_text, rate_text
from trace_parts import TRACES, graph_of, write, zipkin

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


class _Page(HTMLParser):
    """Tags, ids and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def _chain(count: int) -> Graph:
    services = [
        Service(
            name=f"svc-{n:03d}", kind=ServiceKind.SERVICE, observed=True, endpoints=[Endpoint(name="x", requests=9)]
        )
        for n in range(count)
    ]
    edges = [
        Edge(caller=f"svc-{(n - 1) // 3:03d}", to=f"svc-{n:03d}", endpoint="x", target="x", kind=EdgeKind.CALL, calls=9,
             calls_per_request=1, probability=1, repeats=1, order=n)
        for n in range(1, count)
    ]  # fmt: skip
    return Graph(services=services, edges=edges, traces=1, spans=count)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, page = tmp_path / "graph.json", tmp_path / "page.html"
    words = [
        "topology",
        str(TRACES / "zipkin"),
        str(TRACES / "jaeger"),
        "-o",
        str(graph),
        "--plot",
        str(page),
        "--json",
    ]
    assert run_guarded(words) == 0
    result = json.loads(capsys.readouterr().out)
    loaded = load_graph(graph)
    assert (result["spans"], result["services"]) == (loaded.spans, len(loaded.services))
    assert result["repaired"]["clock_skew"] == loaded.repaired.clock_skew > 0
    assert page.read_text().startswith("<!doctype html>")
    assert run_guarded(["topology", str(tmp_path / "none"), "-o", str(graph)]) == 2
    assert "no such file" in capsys.readouterr().err


def test_nothing_of_a_hostile_name_is_markup(tmp_path: Path) -> None:
    spans = [zipkin(1, None, HOSTILE, HOSTILE, "SERVER", 0, 9),
             zipkin(2, 1, HOSTILE, HOSTILE, "CLIENT", 1, 2, remoteEndpoint={"serviceName": HOSTILE + "2"})]  # fmt: skip
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert graph.services[0].name == HOSTILE
    parsed = _Page(page_of(graph))
    plain = _Page(page_of(graph_of(TRACES / "zipkin/skew.json")))
    assert parsed.tags.count("script") == plain.tags.count("script") == 2
    assert "img" not in parsed.tags and not [a for a in parsed.attributes if a[1].startswith("on")]


def test_page_is_self_contained() -> None:
    text = page_of(graph_of(TRACES))
    parsed = _Page(text)
    links = [value for tag, name, value in parsed.attributes if name in {"src", "href", "action", "data"}]
    assert links and all(value.startswith("#") for value in links)
    assert "url(" not in re.sub(r"url\(#arrow\)", "", text) and "@import" not in text
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text


def test_layout_puts_callers_before_what_they_call_and_no_two_on_one_place() -> None:
    edges = [(0, 1), (1, 2), (0, 2), (2, 3), (3, 1), (3, 3)]
    found = places(5, edges)
    assert [found[n].layer for n in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert len({(p.layer, p.order) for p in found}) == 5
    assert places(0, []) == []


def test_texts() -> None:
    assert [duration_text(v) for v in (0.5, 999.0, 1500.0, 2.5e6)] == ["0.5 µs", "999 µs", "1.5 ms", "2.5 s"]
    assert (rate_text(1, 0, "call"), rate_text(3000, 10, "call")) == ("1 call", "300/s")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("count", [5, 500])
def test_in_a_browser(count: int, tmp_path: Path) -> None:
    """The script runs under the page's policy; of 500 services few show at first, and a named one is unfolded."""
    page = tmp_path / "page.html"
    page.write_text(page_of(_chain(count)))
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    last = count - 1

    def dom(place: str) -> str:
        done = subprocess.run(
            [*words, f"file://{page}{place}"], capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout

    def shown(text: str) -> int:
        return sum("display: none" not in tag for tag in re.findall(r'<a class="node[^>]*>', text))

    start = dom("")
    assert 'class="scripted"' in start
    assert shown(start) == count if count == 5 else 3 <= shown(start) <= 60
    chosen = dom(f"#s{last}")
    node = re.search(rf'<a class="node[^>]*id="n{last}"[^>]*>', chosen)
    assert node is not None and "display: none" not in node[0] and "chosen" in node[0]
