"""Damaged, mixed and hostile trace files: one clear error, or a counted repair, in bounded memory."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ditto.errors import BadInputError
from ditto.topology import cut
from ditto.topology.cut import Cutter
from ditto.topology.sources import Kind, kind_of
from trace_parts import TRACES, calls_of, graph_of, otlp, span, write, zipkin

FILES = sorted(TRACES.rglob("*.json"))
SPANS = {"multi": 4, "testTrace": 4, "skew": 4, "yelp": 16, "ascend": 8, "messaging-kafka": 28,
         "smartthings-oauth-authorization": 175}  # fmt: skip


def _protobuf(value: dict[str, Any]) -> bytes:
    """A request as protobuf.  JSON holds ids as hexadecimal digits, protobuf's own JSON as base64."""
    import base64

    copy = json.loads(json.dumps(value))
    for part in copy["resourceSpans"]:
        for scope in part["scopeSpans"]:
            for found in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    found[key] = base64.b64encode(bytes.fromhex(found[key])).decode()
    return ParseDict(copy, ExportTraceServiceRequest()).SerializeToString()


def _varint(value: int) -> bytes:
    return (bytes([value & 0x7F | 0x80]) + _varint(value >> 7)) if value > 0x7F else bytes([value])


def _requests() -> list[dict[str, Any]]:
    client = {"server.address": "db", "db.system": "mysql", "http.request.body.size": "70"}
    return [
        otlp("front", [span(1, None, "GET /", 2, 0, 1000, t), span(2, 1, "GET", 3, 10, 900, t),
                       span(4, 1, "Q", 3, 901, 950, t, **client)])
        if service == "front" else otlp("back", [span(3, 2, "GET /b", 2, 20, 800, t)])
        for t in range(1, 30) for service in ("front", "back")
    ]  # fmt: skip


def test_protobuf_in_every_framing_gives_the_graph_of_the_json(tmp_path: Path) -> None:
    requests = _requests()
    lines = tmp_path / "t.jsonl"
    lines.write_text("".join(json.dumps(r) + "\n" for r in requests))
    expected = graph_of(lines)
    assert calls_of(expected) == {("front", "back"): 29, ("front", "db"): 29}
    messages = [_protobuf(r) for r in requests]
    framings = {
        "one": b"".join(messages),
        "delimited": b"".join(_varint(len(m)) + m for m in messages),
        "prefixed": b"".join(len(m).to_bytes(4, "big") + m for m in messages),
    }
    for name, data in framings.items():
        for suffix, pack in (("", bytes), ("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)):
            path = tmp_path / f"{name}.{suffix}"
            path.write_bytes(pack(data))
            assert graph_of(path).to_json() == expected.to_json(), path.name
    multi = TRACES / "otlp/multi.json"
    (tmp_path / "multi.pb").write_bytes(_protobuf(json.loads(multi.read_text())))
    assert graph_of(tmp_path / "multi.pb").to_json() == graph_of(multi).to_json()


def test_compressed_and_many_files_and_folders(tmp_path: Path) -> None:
    data = (TRACES / "zipkin/yelp.json").read_bytes()
    expected = graph_of(TRACES / "zipkin/yelp.json").to_json()
    half = len(data) // 2
    packed = {
        "a.gz": gzip.compress(data),
        "b.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "c.zst": zstandard.ZstdCompressor().compress(data),
        "d": zstandard.ZstdCompressor().compress(data[:half]) + zstandard.ZstdCompressor().compress(data[half:]),
        "e": b"\xef\xbb\xbf\n" + data,
    }
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        assert graph_of(tmp_path / name).to_json() == expected, name
    # A folder of all: the files hold the same spans, so all but one copy are duplicates; the note is no trace file.
    (tmp_path / "note.txt").write_text("hello")
    graph = graph_of(tmp_path)
    assert (graph.spans, graph.dropped.duplicates) == (16, 64)


def test_all_formats_mixed_in_one_folder_and_in_one_file(tmp_path: Path) -> None:
    graph = graph_of(TRACES)
    assert (graph.spans, graph.traces) == (sum(SPANS.values()), len(SPANS))
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(json.loads(path.read_text())) + "\n" for path in FILES))
    assert graph_of(mixed).to_json() == graph.to_json()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_truncated_files(path: Path, tmp_path: Path) -> None:
    """Cut anywhere: spans that are whole are kept and the break is counted, or nothing is left and that is said."""
    data = path.read_bytes().rstrip()
    rng = random.Random(5)
    for size in sorted({1, len(data) - 2, *(rng.randrange(2, len(data) - 2) for _ in range(12))}):
        copy = tmp_path / "cut.json"
        copy.write_bytes(data[:size])
        try:
            graph = graph_of(copy)
        except BadInputError as error:
            assert "cut.json" in error.message and "\n" not in error.message
        else:
            assert graph.spans <= SPANS[path.stem] and graph.dropped.broken_documents == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_truncated_compression(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    rng = random.Random(1)
    spans = [zipkin(n, None, "a", f"{rng.random()}", "SERVER", n, 1) for n in range(1, 20_001)]
    text = "".join(json.dumps(s) + "\n" for s in spans).encode()
    path = tmp_path / "t"
    whole = pack(text)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    graph = graph_of(path)
    assert 1000 < graph.spans < 20_000 and graph.dropped.broken_files == 1


def _everywhere(value: Any, rng: random.Random) -> Any:
    """A copy of a document in which one member in thirty has another type."""
    wrong: list[Any] = [None, 7, "x", [], {}, True, -1.5, [[]], {"a": []}]
    if isinstance(value, dict):
        return {k: rng.choice(wrong) if rng.random() < 0.03 else _everywhere(v, rng) for k, v in value.items()}
    if isinstance(value, list):
        return [rng.choice(wrong) if rng.random() < 0.03 else _everywhere(v, rng) for v in value]
    return value


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_wrong_types_anywhere(path: Path, tmp_path: Path) -> None:
    value = json.loads(path.read_text())
    counted = 0
    for seed in range(30):
        copy = write(tmp_path / "wrong.json", _everywhere(value, random.Random(seed)))
        try:
            graph = graph_of(copy)
        except BadInputError as error:
            assert "wrong.json" in error.message
            counted += 1
        else:
            assert graph.spans + graph.dropped.duplicates <= SPANS[path.stem]
            counted += graph.dropped.wrong_types + graph.dropped.no_id > 0
    assert counted > 0


def test_one_wrong_span_does_not_cost_the_others(tmp_path: Path) -> None:
    for wrong in ({"timestamp": "soon"}, {"name": 5}, {"localEndpoint": []}, {"tags": 3}, {"duration": [1]}):
        spans = [zipkin(n, None, "a", "get", "SERVER", n, 1) for n in range(1, 11)]
        spans[4] |= wrong
        graph = graph_of(write(tmp_path / "t.json", spans))
        assert (graph.spans, graph.dropped.wrong_types) == (9, 1), wrong
    del spans[4]["id"]
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert (graph.spans, graph.dropped.no_id) == (9, 1)


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    lines = [json.dumps(r) for r in _requests()]
    lines[3] = lines[3][:-9]
    lines.insert(7, "what is this")
    lines.append('{"neither": "nor"}')
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines))
    graph = graph_of(path)
    assert graph.dropped.broken_documents == 3 and graph.spans == 4 * 29 - 1


def test_broken_protobuf(tmp_path: Path) -> None:
    messages = [_protobuf(r) for r in _requests()]
    data = b"".join(len(m).to_bytes(4, "big") + m for m in messages)
    path = tmp_path / "t.pb"
    path.write_bytes(data[: len(data) - 10])
    graph = graph_of(path)
    assert (graph.spans, graph.dropped.broken_documents) == (4 * 29 - 1, 1)
    rng = random.Random(2)
    for _ in range(40):
        changed = bytearray(data)
        for _ in range(20):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            graph_of(path)
        except BadInputError as error:
            assert "t.pb" in error.message


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00\x01\x02", b"[]", b"{}", b"[1, 2]", b'{"data": []}', b"null", b"\x1f\x8b"]
)
def test_what_holds_no_spans(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"t\.json"):
        graph_of(path)
    with pytest.raises(BadInputError, match="no such file"):
        graph_of(tmp_path / "missing")


def test_names_of_a_megabyte(tmp_path: Path) -> None:
    spans = [zipkin(n, None, "s" * (1 << 20), f"{n % 2}" + "n" * (1 << 20), "SERVER", n, 1) for n in range(1, 9)]
    graph = graph_of(write(tmp_path / "t.json", spans))
    (service,) = graph.services
    assert len(service.name) <= 256 and len(service.endpoints) == 2
    assert graph.repaired.long_names >= 8 and graph.spans == 8


@pytest.mark.parametrize(
    "opening", ["[", '{"a":', '{"resourceSpans":[{"resource":{"attributes":[{"key":"x","value":{"arrayValue":']
)
def test_deep_nesting(opening: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(opening * 200_000)
    with pytest.raises(BadInputError, match=r"t\.json"):
        graph_of(path)
    good = json.dumps(zipkin(1, None, "a", "get", "SERVER", 0, 1))
    path.write_text(good + "\n" + opening * 100_000 + "\n" + good.replace('"id": "1"', '"id": "2"') + "\n")
    graph = graph_of(path)
    assert (graph.spans, graph.dropped.broken_documents) == (2, 1)


def test_one_id_for_all_spans(tmp_path: Path) -> None:
    """Every span has the id of every other: no join may grow with the square of their number."""
    spans = [zipkin(7, 7, f"s{n % 5}", "x", "SERVER", n, 1) for n in range(20_000)]
    graph = graph_of(write(tmp_path / "t.json", spans))
    assert graph.spans == 20_000


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["data", "resourceSpans", "a", 'q"\\']), inner, max_size=4)
        ),
        max_leaves=25,
    ),
    st.integers(1, 9),
)
def test_cutting_gives_whole_documents(value: Any, size: int) -> None:
    """Elements of the list that a document consists of come out whole, whatever the blocks it is read in."""
    text = json.dumps(value).encode()
    cutter = Cutter()
    pieces = [json.loads(piece) for piece in cutter.cut(text[i : i + size] for i in range(0, len(text), size))]
    assert cutter.broken == 0
    if isinstance(value, list):
        found = [item for piece in pieces for item in piece]
        assert found == [item for item in value if isinstance(item, dict | list)]
    elif isinstance(value, dict) and not any(isinstance(value.get(key), list) for key in ("data", "resourceSpans")):
        assert pieces == [value]


def test_a_document_larger_than_memory_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "LARGEST", 1 << 20)
    spans = [zipkin(n, None, "a", "get", "SERVER", n, 1) for n in range(1, 30_001)]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(spans, indent=1))
    assert graph_of(path).spans == 30_000
    path.write_text(json.dumps([*spans[:10], {"traceId": "1", "junk": "x" * (3 << 20)}, *spans[10:20]]))
    graph = graph_of(path)
    assert (graph.spans, graph.dropped.broken_documents) == (20, 1)


@pytest.mark.slow
def test_a_line_that_never_ends_takes_little_memory(tmp_path: Path) -> None:
    """300 MB of zeros in 300 KB, as one line and as one string."""
    code = (
        "import sys; from pathlib import Path; from ditto.topology import graph_of_traces;"
        "from ditto.host.progress import SilentProgress\n"
        "graph = graph_of_traces([Path(sys.argv[1])], SilentProgress(), memory_mb=300)\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(graph.spans, int(status['VmHWM'].split()[0]) // 1024)"
    )
    good = json.dumps(zipkin(1, None, "a", "get", "SERVER", 0, 1)).encode()
    path = tmp_path / "bomb.gz"
    path.write_bytes(
        gzip.compress(good + b'\n{"traceId": "' + b"0" * (300 << 20) + b"\n" + good.replace(b'"id": "1"', b'"id": "2"'))
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spans, megabytes = map(int, done.stdout.split())
    assert spans == 2 and megabytes < 700


def test_kinds_by_content() -> None:
    message = _protobuf(_requests()[0])
    assert kind_of(message, True) is Kind.FIELDS
    assert kind_of(_varint(len(message)) + message, True) is Kind.DELIMITED
    assert kind_of(len(message).to_bytes(4, "big") + message, True) is Kind.PREFIXED
    assert kind_of(b'\n{\n"a": 1}', True) is Kind.JSON and kind_of(b"{", True) is Kind.JSON
    assert kind_of(b"plain text", True) is Kind.UNKNOWN
