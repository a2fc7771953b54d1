"""Clone the examples anew and write how well each came out: docs/fidelity.md, and the table in the README.

python benchmarks/fidelity.py                     every example, in build/fidelity/
python benchmarks/fidelity.py redis nginx         some
python benchmarks/fidelity.py --keep              only what is not there yet
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from callgrind import command_of, compared

from ditto.artifacts.app import load_app

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("redis", "memcached", "nginx", "redis-lrange", "nginx-64k", "memcached-sets")
BEGIN, END = "<!-- fidelity: begin -->", "<!-- fidelity: end -->"


def clone(name: str, out: Path, keep: bool) -> float | None:
    """Clone an example; the seconds it took, None where it was kept."""
    if keep and (out / "fidelity.json").is_file():
        return None
    began = time.monotonic()
    app = ROOT / "examples" / f"{name}.toml"
    subprocess.run([sys.executable, "-m", "ditto", "clone", str(app), "-o", str(out)], check=True)
    return time.monotonic() - began


def by_callgrind(name: str, out: Path, keep: bool, passes: float) -> dict[str, Any]:
    """Instructions per request of both sides by callgrind, kept beside the clone."""
    path = out / "callgrind.json"
    if not (keep and path.is_file()):
        spec = load_app(ROOT / "examples" / f"{name}.toml")
        path.write_text(json.dumps(asdict(compared(spec, command_of(out / "clone"), passes)), indent=1) + "\n")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def passes_of(fidelity: dict[str, Any]) -> float:
    """How often the client makes the number of requests that it is asked for."""
    match = re.search(r"asked for, ([\d.]+) times over", fidelity["conditions"]["counted"])
    return float(match[1]) if match else 1.0


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}".replace("%", " %")


def error_and_noise(records: dict[str, Any], metric: str) -> str:
    """``error (noise)`` of a metric."""
    record = records.get(metric)
    if record is None or record["error"] is None:
        return "-"
    if record["error_kind"] != "relative":
        return f"{record['error']:+.3f}"
    noise = "" if record["noise"] is None else f" ({record['noise'] * 100:.0f})"
    return percent(record["error"]) + noise


def worst_call(fidelity: dict[str, Any]) -> str:
    """The system call that is furthest off, of those made at least 0.01 times a request that do not wait."""
    waits = {"epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "futex", "nanosleep", "clock_nanosleep"}
    rows = [
        (abs(row["clone"] / row["original"] - 1), row["name"])
        for row in fidelity["syscall_table"]
        if row["original"] >= 0.01 and row["name"] not in waits
    ]
    return "-" if not rows else f"{max(rows)[0] * 100:.2f} %"


def row(name: str, fidelity: dict[str, Any], callgrind: dict[str, Any], seconds: float) -> list[str]:
    records = {record["metric"]: record for record in fidelity["records"]}
    instructions = callgrind["clone"]["Ir"] / callgrind["original"]["Ir"] - 1
    return [
        name,
        error_and_noise(records, "throughput.saturation"),
        error_and_noise(records, "cpu.ns_per_request"),
        error_and_noise(records, "cpu.user_ns_per_request"),
        error_and_noise(records, "latency.p50_at_50"),
        error_and_noise(records, "latency.p99_at_50"),
        f"{percent(instructions)} ({callgrind['spread'] * 100:.0f})",
        worst_call(fidelity),
        f"{records['syscalls.foreign_types']['clone']:.0f}"
        if records["syscalls.foreign_types"]["clone"] is not None
        else "-",
        percent(records["bytes.sent_per_request"]["error"]),
        f"{records['mix.distance']['clone']:.3f}" if records["mix.distance"]["clone"] is not None else "-",
        error_and_noise(records, "branches.mispredicted_per_request"),
        error_and_noise(records, "memory.resident_bytes"),
        f"{seconds:.0f} s",
    ]


HEAD = [
    "example", "throughput at saturation", "CPU per request", "user CPU per request", "p50 at half load",
    "p99 at half load", "instructions (callgrind)",
    "worst call", "foreign calls", "bytes sent", "mix distance", "mispredicted", "resident memory", "cloned in",
]  # fmt: skip


def table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])


def detail(name: str, fidelity: dict[str, Any], callgrind: dict[str, Any]) -> str:
    """All records of one example."""
    lines = [
        f"### {name}",
        "",
        "| metric | unit | original | clone | empty body | error | noise |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in fidelity["records"]:
        values = [record["original"], record["clone"], record["empty_body"]]
        cells = ["-" if v is None else f"{v:,.4g}" if abs(v) < 1e4 else f"{v:,.0f}" for v in values]
        kind = record["error_kind"] == "relative"
        errors = ["-" if v is None else percent(v) if kind else f"{v:.4f}" for v in (record["error"], record["noise"])]
        lines.append("| " + " | ".join([record["metric"], record["unit"], *cells, *errors]) + " |")
    a, b = callgrind["original"]["Ir"], callgrind["clone"]["Ir"]
    errors = f"{percent(b / a - 1)} | {percent(callgrind['spread'])}"
    lines.append(f"| callgrind: Ir | instructions | {a:,.0f} | {b:,.0f} | - | {errors} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="examples (default: all)")
    parser.add_argument("--keep", action="store_true", help="use what was made before")
    arguments = parser.parse_args()
    rows, details = [], []
    machine = ""
    for name in arguments.names or ORDER:
        out = ROOT / "build" / "fidelity" / name
        print(f"== {name}", flush=True)
        seconds = clone(name, out, arguments.keep)
        if seconds is not None:
            (out / "seconds.json").write_text(json.dumps(seconds))
        fidelity = json.loads((out / "fidelity.json").read_text())
        counted = by_callgrind(name, out, arguments.keep, passes_of(fidelity))
        took = float(json.loads((out / "seconds.json").read_text()))
        rows.append(row(name, fidelity, counted, took))
        details.append(detail(name, fidelity, counted))
        facts = fidelity["machine"]
        machine = f"{facts.get('cpu_model', '')}, {facts.get('cpus', '')} CPUs, Linux {facts.get('kernel', '')}"
        print(" | ".join(rows[-1]), flush=True)
    text = table(rows)
    note = (
        "Clone against original: medians of interleaved runs under the example's own client; in brackets, in percent, "
        f"the original's own spread. Machine: {machine.strip(', ')}."
    )
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "fidelity.md").write_text(
        f"# Fidelity\n\nMade by `make fidelity`. {note}\n\n{text}\n\n## All figures\n\n" + "\n\n".join(details) + "\n"
    )
    readme = ROOT / "README.md"
    content = readme.read_text()
    if BEGIN in content and not arguments.names:
        before, _, rest = content.partition(BEGIN)
        readme.write_text(before + BEGIN + "\n" + note + "\n\n" + text + "\n" + END + rest.partition(END)[2])
    print(text)


if __name__ == "__main__":
    main()
