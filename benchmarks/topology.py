"""How long ``ditto topology`` takes for 1, 3 and 10 million spans, and how much memory.

    python benchmarks/topology.py                     # all sizes, OTLP JSON lines; a Markdown table
    python benchmarks/topology.py --spans 1 --format protobuf

The traces are generated: an application of 24 services with caches, databases and a queue, whose requests take one of
64 courses with loops, parallel calls and branches, in batches by service as a collector's file exporter writes them.
The generator knows what it wrote, so each run also checks the numbers of spans, traces, services and calls.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SERVICES = 24
COURSES = 64
BATCH = 200
SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1
STORES = (("postgresql", "db.system.name"), ("redis", "db.system.name"), ("mysql", "db.system.name"))


@dataclass
class Span:
    """One span of a course: who makes it, under which span, and when (nanoseconds from the trace's start)."""

    service: int
    name: str
    kind: int
    parent: int
    begins: int
    ends: int = 0
    attributes: dict[str, str] = field(default_factory=dict)


class Course:
    """One course that a request takes through the application: its spans, and the calls that it makes."""

    def __init__(self, rng: random.Random) -> None:
        self.spans: list[Span] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self._rng = rng
        self._serve(0, f"GET /front/{rng.randrange(4)}", -1, 0, 0)

    def _add(self, span: Span) -> int:
        self.spans.append(span)
        return len(self.spans) - 1

    def _serve(self, service: int, name: str, parent: int, now: int, depth: int) -> int:
        attributes = {"http.request.method": "GET", "http.route": name.split()[-1], "url.scheme": "http"}
        attributes |= {"http.response.status_code": "200", "network.protocol.version": "1.1"}
        me = self._add(Span(service, name, SERVER, parent, now, attributes=attributes))
        at = now + self._rng.randrange(50_000, 300_000)
        inner = self._add(Span(service, "handle", INTERNAL, me, at))
        for _ in range(self._rng.randrange(1, 4 if depth < 2 else 2)):
            at = self._step(service, inner, at + self._rng.randrange(10_000, 90_000), depth)
        self.spans[inner].ends = at + 20_000
        self.spans[me].ends = at + 60_000
        return self.spans[me].ends

    def _step(self, service: int, under: int, at: int, depth: int) -> int:
        kind = self._rng.random()
        if depth < 3 and kind < 0.5:
            starts = [at + 1_000 * k for k in range(self._rng.choice((1, 1, 2, 3)))]
            return max(self._call(service, under, start, depth) for start in starts)
        if kind < 0.95:
            return self._store(service, under, at, self._rng.randrange(len(STORES)))
        self._add(
            Span(
                service, "orders send", PRODUCER, under, at, at + 80_000,
                {"messaging.system": "kafka", "messaging.destination.name": "orders"},
            )
        )  # fmt: skip
        self.calls[f"svc-{service:02d}", "kafka"] += 1
        return at + 80_000

    def _call(self, service: int, under: int, at: int, depth: int) -> int:
        to = min(SERVICES - 1, service * 2 + self._rng.randrange(1, 4))
        name = f"GET /svc{to}/{self._rng.randrange(3)}"
        me = self._add(
            Span(service, "GET", CLIENT, under, at, attributes={"server.address": f"svc-{to:02d}", "server.port": "80"})
        )
        self.calls[f"svc-{service:02d}", f"svc-{to:02d}"] += 1
        self.spans[me].ends = self._serve(to, name, me, at + 100_000, depth + 1) + 100_000
        return self.spans[me].ends

    def _store(self, service: int, under: int, at: int, store: int) -> int:
        system, key = STORES[store]
        ends = at + self._rng.randrange(100_000, 900_000)
        attributes = {key: system, "db.query.text": "SELECT a FROM t WHERE b = ?", "server.port": str(5432 + store)}
        self._add(Span(service, f"SELECT t{service}", CLIENT, under, at, ends, attributes))
        self.calls[f"svc-{service:02d}", system] += 1
        return ends


@dataclass
class Written:
    """What the generator wrote."""

    spans: int
    traces: int
    services: int
    calls: Counter[tuple[str, str]]
    bytes: int


def _attribute(key: str, value: str) -> dict[str, object]:
    return {"key": key, "value": {"stringValue": value}}


def _template(span: Span) -> str:
    """The span's JSON with holes for the ids (as whole numbers) and the times."""
    text = json.dumps(
        {
            "traceId": "@T", "spanId": "@S", "parentSpanId": "@P" if span.parent >= 0 else "", "flags": 257,
            "name": span.name, "kind": span.kind, "startTimeUnixNano": "@B", "endTimeUnixNano": "@E",
            "attributes": [_attribute(k, v) for k, v in span.attributes.items()], "status": {},
        },
        separators=(",", ":"),
    ).replace("%", "%%")  # fmt: skip
    return text.replace("@T", "%032x").replace("@S", "%016x").replace("@P", "%016x").replace("@B", "%d").replace(
        "@E", "%d"
    )  # fmt: skip


def generate(path: Path, spans: int, seed: int = 1) -> Written:
    """Write at least ``spans`` spans as OTLP JSON lines."""
    rng = random.Random(seed)
    courses = [Course(rng) for _ in range(COURSES)]
    prepared = []
    for course in courses:
        by_service: dict[int, list[int]] = defaultdict(list)
        for number, span in enumerate(course.spans):
            by_service[span.service].append(number)
        templates, parts = {}, []
        for service, numbers in by_service.items():
            templates[service] = ",".join(_template(course.spans[n]) for n in numbers)
            parts.append((service, numbers))
        times = np.array([(s.begins, s.ends) for s in course.spans], dtype=np.int64)
        prepared.append((course, templates, parts, times))
    head = {
        service: '{"resource":{"attributes":'
        + json.dumps(
            [
                _attribute("service.name", f"svc-{service:02d}"),
                _attribute("host.name", f"node-{service % 7}"),
                _attribute("telemetry.sdk.language", "go"),
                _attribute("service.version", "1.4.2"),
            ],
            separators=(",", ":"),
        )
        + '},"scopeSpans":[{"scope":{"name":"net/http"},"spans":['
        for service in range(SERVICES)
    }
    made = traces = written = 0
    seen: Counter[int] = Counter()
    base = 1 << 40
    with path.open("w", encoding="ascii", buffering=1 << 22) as file:
        while made < spans:
            batch: dict[int, list[str]] = defaultdict(list)
            for _ in range(BATCH):
                choice = rng.randrange(COURSES)
                course, templates, parts, times = prepared[choice]
                seen[choice] += 1
                traces += 1
                absolute = (times * (0.8 + 0.4 * rng.random())).astype(np.int64) + (
                    1_700_000_000_000_000_000 + traces * 250_000
                )
                clock = absolute.tolist()
                trace = (traces * 0x9E3779B97F4A7C15) & ((1 << 128) - 1)
                for service, numbers in parts:
                    holes: list[int] = []
                    for n in numbers:
                        span = course.spans[n]
                        holes += (trace, base + n)
                        if span.parent >= 0:
                            holes.append(base + span.parent)
                        holes += clock[n]
                    batch[service].append(templates[service] % tuple(holes))
                base += len(course.spans)
                made += len(course.spans)
                if made >= spans:
                    break
            text = ",".join(head[service] + ",".join(rows) + "]}]}" for service, rows in sorted(batch.items()))
            written += file.write('{"resourceSpans":[' + text + "]}\n")
    calls: Counter[tuple[str, str]] = Counter()
    services: set[str] = set()
    for choice, times_taken in seen.items():
        for edge, count in courses[choice].calls.items():
            calls[edge] += count * times_taken
            services.update(edge)
        services.update(f"svc-{s.service:02d}" for s in courses[choice].spans)
    return Written(made, traces, len(services), calls, written)


def to_protobuf(source: Path, target: Path) -> None:
    """The same requests as protobuf, each after its length."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            value = json.loads(line)
            for part in value["resourceSpans"]:
                for scope in part["scopeSpans"]:
                    for span in scope["spans"]:
                        for key in ("traceId", "spanId", "parentSpanId"):
                            span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
            message = ParseDict(value, ExportTraceServiceRequest()).SerializeToString()
            out.write(len(message).to_bytes(4, "big") + message)


@dataclass
class Run:
    """What one run of ``ditto topology`` took: wall and CPU seconds, and memory of all its processes at its peak.

    ``others`` is how many processors something else kept busy meanwhile.
    """

    wall_s: float
    cpu_s: float
    others: float
    peak_mb: float


def _memory_kb(root: int) -> int:
    """Proportional memory of a process and its children."""
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except (OSError, StopIteration):
            continue
    return total


def _busy_s() -> float:
    """Seconds that all processors together have worked."""
    words = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    idle = int(words[3]) + int(words[4])
    return (sum(map(int, words)) - idle) / os.sysconf("SC_CLK_TCK")


def measure(traces: Path, graph: Path) -> Run:
    """Run ``ditto topology`` in a process of its own."""
    before, busy = os.times(), _busy_s()
    began = time.monotonic()
    words = [sys.executable, "-m", "ditto", "topology", str(traces), "-o", str(graph)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_kb(process.pid))
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"ditto topology ended with {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    wall = time.monotonic() - began
    return Run(wall, cpu, max(0.0, _busy_s() - busy - cpu) / wall, peak / 1024)


def check(graph: Path, written: Written) -> None:
    """The graph holds what was written."""
    value = json.loads(graph.read_text())
    calls: Counter[tuple[str, str]] = Counter()
    for edge in value["edges"]:
        calls[edge["from"], edge["to"]] += edge["calls"]
    found = (value["spans"], value["traces"], len(value["services"]), value["coverage"])
    if found != (written.spans, written.traces, written.services, 1.0) or calls != written.calls:
        raise SystemExit(f"the graph is wrong: {found} instead of {written.spans, written.traces, written.services}")


def main() -> None:
    """Measure, check, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=float, nargs="*", default=[1, 3, 10], help="millions")
    parser.add_argument("--format", choices=("json", "protobuf"), default="json")
    parser.add_argument("--folder", type=Path, help="where the traces are written; 4 GB for ten million spans")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ditto-bench-", dir=options.folder))
    print("| million spans | GB | generator | ditto topology | CPU | peak memory | busy with other work |")
    print("|---|---|---|---|---|---|---|", flush=True)
    try:
        for millions in options.spans:
            traces = folder / "traces.jsonl"
            began = time.monotonic()
            written = generate(traces, int(millions * 1e6))
            took = time.monotonic() - began
            if options.format == "protobuf":
                to_protobuf(traces, folder / "traces.pb")
                traces.unlink()
                traces = folder / "traces.pb"
            run = measure(traces, folder / "graph.json")
            check(folder / "graph.json", written)
            print(
                f"| {written.spans / 1e6:.1f} | {traces.stat().st_size / 1e9:.2f} | {took:.1f} s | {run.wall_s:.1f} s"
                f" | {run.cpu_s:.1f} s | {run.peak_mb:.0f} MB | {run.others:.1f} of {os.cpu_count()} CPUs |",
                flush=True,
            )
            traces.unlink()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
