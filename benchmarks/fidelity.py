"""Clone the examples anew and write how well each came out: docs/fidelity.md, and the table in the README.

python benchmarks/fidelity.py                     every example, in build/fidelity/
python benchmarks/fidelity.py redis nginx         some; the rows of the others stay as docs/fidelity.json has them
python benchmarks/fidelity.py --keep              only what is not there yet

Every row names the commit of the code that it was measured with.
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

import unseen
from callgrind import CACHES, MISSES, command_of, compared, load_for_callgrind, per_thousand

from ditto.errors import DittoError

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "redis", "memcached", "nginx", "redis-lrange", "nginx-64k", "memcached-sets",
    "fastapi", "php", "gunicorn", "node", "caddy", "lighttpd", "apache-prefork", "apache-event", "haproxy", "php-fpm",
    "caller", "postgres", "postgres-tpcb", "postgres-disk", "mariadb", "mariadb-rw", "unbound", "grpc", "disk",
)  # fmt: skip
"""All examples of one service, as the tables have them."""
FEW = ("redis", "memcached", "nginx", "redis-lrange", "nginx-64k", "memcached-sets")
"""Those that `make fidelity` clones: half an hour.  The others are named one by one."""
BEGIN, END = "<!-- fidelity: begin -->", "<!-- fidelity: end -->"


def clone(name: str, out: Path) -> None:
    """Clone an example, and keep beside it how long that took and which code it was."""
    began = time.monotonic()
    app = ROOT / "examples" / f"{name}.toml"
    subprocess.run([sys.executable, "-m", "ditto", "clone", str(app), "-o", str(out)], check=True)
    made = {"seconds": time.monotonic() - began, "commit": commit()}
    (out / "made.json").write_text(json.dumps(made) + "\n")


def commit() -> str:
    """The commit that is checked out; with a plus where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "src", "native"], capture_output=True, text=True, check=True
    ).stdout
    return head.strip() + ("+" if changed.strip() else "")


def by_callgrind(name: str, out: Path, passes: float) -> None:
    """Instructions per request of both sides by callgrind, kept beside the clone; none for apps it cannot run."""
    path = out / "callgrind.json"
    path.unlink(missing_ok=True)
    spec = load_for_callgrind(ROOT / "examples" / f"{name}.toml")
    try:
        found = compared(spec, command_of(out / "clone"), passes)
        caches = compared(spec, command_of(out / "clone"), passes, 1, CACHES)
    except (DittoError, KeyError, ZeroDivisionError) as error:
        print(f"{name}: no figures by callgrind: {error}", flush=True)
        return
    misses = {"original": per_thousand(caches.original), "clone": per_thousand(caches.clone)}
    path.write_text(json.dumps(asdict(found) | {"misses": misses}, indent=1) + "\n")


def under_another_load(name: str, out: Path) -> None:
    """Both sides under the load that the clone was not made from, kept beside the clone."""
    path = out / "unseen.json"
    path.unlink(missing_ok=True)
    try:
        found = unseen.compared(name, out / "clone")
    except DittoError as error:
        print(f"{name}: no figures under another load: {error}", flush=True)
        return
    if found is not None:
        path.write_text(json.dumps(found | {"commit": commit()}, indent=1) + "\n")


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


def row(name: str, fidelity: dict[str, Any], callgrind: dict[str, Any] | None, made: dict[str, Any]) -> list[str]:
    records = {record["metric"]: record for record in fidelity["records"]}
    counted = "-"
    if callgrind is not None:
        instructions = callgrind["clone"]["Ir"] / callgrind["original"]["Ir"] - 1
        counted = f"{percent(instructions)} ({callgrind['spread'] * 100:.0f})"
    return [
        name,
        error_and_noise(records, "throughput.saturation"),
        error_and_noise(records, "cpu.ns_per_request"),
        error_and_noise(records, "cpu.user_ns_per_request"),
        error_and_noise(records, "latency.p50_at_50"),
        error_and_noise(records, "latency.p99_at_50"),
        counted,
        worst_call(fidelity),
        number(records, "syscalls.foreign_types", ".0f"),
        percent(records.get("bytes.sent_per_request", {}).get("error")),
        number(records, "mix.distance", ".3f"),
        error_and_noise(records, "branches.mispredicted_per_request"),
        error_and_noise(records, "memory.resident_bytes"),
        f"{made['seconds']:.0f} s",
        made["commit"],
    ]


def number(records: dict[str, Any], metric: str, shape: str) -> str:
    """The clone's figure."""
    value = records.get(metric, {}).get("clone")
    return "-" if value is None else format(value, shape)


HEAD = [
    "example", "throughput at saturation", "CPU per request", "user CPU per request", "p50 at half load",
    "p99 at half load", "instructions (callgrind)",
    "worst call", "foreign calls", "bytes sent", "mix distance", "mispredicted", "resident memory", "cloned in",
    "code",
]  # fmt: skip


BY_CALLGRIND = """A tool of neither side: I1 of 32 KiB, D1 of 48 KiB, LL of 32 MiB, its own branch predictor. Beside
it what the clones of the paper's artifact had of the same.

| example | figure | unit | original | clone | error | the paper's clone |
|---|---|---|---|---|---|---|"""


UNSEEN = (
    "Other connection counts and other mixes of the same requests, each clone as it is. Errors of the clone, in "
    "brackets the original's own spread; of the mix and the miss curves (from 1 KiB on) the distance.\n\n"
    f"| example | load | {' | '.join((*unseen.METRICS.values(), unseen.WIDEST))} | code |\n"
    f"|{'---|' * (len(unseen.METRICS) + 4)}"
)


def table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])


def detail(name: str, fidelity: dict[str, Any], callgrind: dict[str, Any] | None) -> str:
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
    if callgrind is not None:
        a, b = callgrind["original"]["Ir"], callgrind["clone"]["Ir"]
        apart, spread = percent(b / a - 1), percent(callgrind["spread"])
        lines.append(f"| callgrind: Ir | instructions | {a:,.0f} | {b:,.0f} | - | {apart} | {spread} |")
    return "\n".join(lines)


PAPER = {
    "memcached": {
        "instructions": "+44 %", "I1 misses": "0.00 → 19.1", "D1 misses": "3.35 → 4.67", "branch misses": "-17 %",
        "indirect branches": "46.6 → 5.3",
    },
    "nginx": {
        "instructions": "+45 %", "I1 misses": "39.6 → 12.5", "D1 misses": "0.00 → 21.7", "branch misses": "-79 %",
        "indirect branches": "188 → 10",
    },
    "redis": {
        "instructions": "+55 %", "I1 misses": "1.28 → 10.9", "D1 misses": "5.53 → 15.1", "branch misses": "-37 %",
        "indirect branches": "186 → 2.1",
    },
}  # fmt: skip
"""The clones that the paper's artifact ships, measured in the same way: misses per 1000 instructions of original and
clone, branch misses as the error of those, indirect branches per request."""


def simulated(name: str, callgrind: dict[str, Any] | None) -> list[str]:
    """The rows of an example in the table of callgrind's caches and branches."""
    if callgrind is None:
        return []
    a, b = callgrind["original"]["Ir"], callgrind["clone"]["Ir"]
    paper = PAPER.get(name, {})
    rows = [
        [
            name,
            "instructions",
            "per request",
            f"{a:,.0f}",
            f"{b:,.0f}",
            percent(b / a - 1),
            paper.get("instructions", ""),
        ]
    ]
    for what in MISSES if "misses" in callgrind else ():
        first, second = (callgrind["misses"][side][what] for side in ("original", "clone"))
        unit = "per 1000 instructions"
        if what == "indirect branches":
            first, second, unit = first * a / 1000, second * b / 1000, "per request"
        # Where the original has next to none, a quotient tells nothing.
        error = percent(second / first - 1) if first >= 1 else f"{second - first:+.2f}"
        rows.append(["", what, unit, f"{first:,.2f}", f"{second:,.2f}", error, paper.get(what, "")])
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def another_load(name: str, found: dict[str, Any] | None) -> list[str]:
    """The row of an example in the table of loads that no clone was made from."""
    if found is None:
        return []
    cells = [name, f"`{found['load']}`"]
    for words in (*unseen.METRICS.values(), unseen.WIDEST):
        _, clone, error, noise, kind = found.get(words, (None, None, None, None, ""))
        spread = "" if noise is None else f" ({noise * 100:.0f})"
        absolute = "-" if clone is None else f"{clone:.3g}"
        cells.append(percent(error) + spread if kind == "relative" else absolute)
    return ["| " + " | ".join([*cells, found.get("commit", "-")]) + " |"]


def entry(name: str, out: Path) -> dict[str, Any]:
    """What the tables say of an example, from what lies beside its clone."""
    fidelity = json.loads((out / "fidelity.json").read_text())
    counted, other = (
        json.loads(path.read_text()) if path.is_file() else None
        for path in (out / "callgrind.json", out / "unseen.json")
    )
    facts = fidelity["machine"]
    return {
        "row": row(name, fidelity, counted, json.loads((out / "made.json").read_text())),
        "detail": detail(name, fidelity, counted),
        "simulated": simulated(name, counted),
        "unseen": another_load(name, other),
        "machine": f"{facts.get('cpu_model', '')}, {facts.get('cpus', '')} CPUs, Linux {facts.get('kernel', '')}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="examples (default: all)")
    parser.add_argument("--keep", action="store_true", help="use what was made before")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ORDER]
    if unknown:
        parser.error(f"no example of one service: {', '.join(unknown)}; there are {', '.join(ORDER)}")
    folder = ROOT / "build" / "fidelity"
    for name in arguments.names or FEW:
        out = folder / name
        if arguments.keep and (out / "made.json").is_file():
            continue
        print(f"== {name}", flush=True)
        clone(name, out)
        by_callgrind(name, out, passes_of(json.loads((out / "fidelity.json").read_text())))
        under_another_load(name, out)
    kept = ROOT / "docs" / "fidelity.json"
    known: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in ORDER:
        if (folder / name / "made.json").is_file():
            known[name] = entry(name, folder / name)
    known = {name: known[name] for name in ORDER if name in known}
    kept.write_text(json.dumps(known, indent=1) + "\n")
    text = table([found["row"] for found in known.values()])
    machines = " and ".join(sorted({found["machine"] for found in known.values()}))
    note = (
        "Clone against original: medians of interleaved runs under the example's own client; in brackets, in percent, "
        f"the original's own spread. Machine: {machines}. The last column is the commit of the code."
    )
    (ROOT / "docs").mkdir(exist_ok=True)
    by_another = "\n".join(line for found in known.values() for line in found.get("simulated", ()))
    loads = "\n".join(line for found in known.values() for line in found.get("unseen", ()))
    (ROOT / "docs" / "fidelity.md").write_text(
        f"# Fidelity\n\nMade by `make fidelity`. {note}\n\n{text}\n\n"
        f"## By callgrind\n\n{BY_CALLGRIND}\n{by_another}\n\n"
        f"## Under a load that no clone was made from\n\n{UNSEEN}\n{loads}\n\n## All figures\n\n"
        + "\n\n".join(found["detail"] for found in known.values())
        + "\n"
    )
    readme = ROOT / "README.md"
    content = readme.read_text()
    if BEGIN in content:
        before, _, rest = content.partition(BEGIN)
        readme.write_text(before + BEGIN + "\n" + note + "\n\n" + text + "\n" + END + rest.partition(END)[2])
    print(text)


if __name__ == "__main__":
    main()
