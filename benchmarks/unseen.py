"""Original and clone under a load that the clone was not made from: another connection count, another mix.

python benchmarks/unseen.py redis build/fidelity/redis/clone

The load is the table ``x-unseen`` of the example.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from ditto.artifacts.app import AppSpec, load_app
from ditto.host.progress import SilentProgress
from ditto.validate import ValidateOptions, validate

ROOT = Path(__file__).resolve().parent.parent
METRICS = {
    "instructions.user_per_request": "instructions",
    "mix.distance": "mix distance",
    "branches.mispredicted_per_request": "mispredicted",
    "branches.indirect_per_request": "indirect branches",
    "syscalls.total": "system calls",
    "syscalls.foreign_types": "foreign calls",
    "bytes.sent_per_request": "bytes sent",
    "bytes.received_per_request": "bytes received",
    "throughput.saturation": "throughput",
    "cpu.ns_per_request": "CPU per request",
    "memory.resident_bytes": "resident memory",
}
"""Records in the table, and their names there."""
WIDEST = "widest gap of miss curves"


def unseen_load(path: Path) -> AppSpec | None:
    """The app under its other load; None where the example names none."""
    own = tomllib.loads(path.read_text()).get("x-unseen")
    if own is None:
        return None
    spec = load_app(path)
    changed = {"command": tuple(own["command"]), "connections": own["connections"]}
    return spec.model_copy(update={"load": spec.load.model_copy(update=changed)})


def compared(name: str, clone: Path, rounds: int = 3, seconds: float = 1.5) -> dict[str, Any] | None:
    """Figures of both sides under the other load: by its name in `METRICS`, original, clone, error, noise and the kind
    of the error.  None where the example names no such load."""
    spec = unseen_load(ROOT / "examples" / f"{name}.toml")
    if spec is None:
        return None
    options = ValidateOptions(rounds=rounds, seconds=seconds, latency=False, empty_body=False)
    fidelity = validate(spec, clone, options, SilentProgress())
    found: dict[str, Any] = {"load": " ".join(spec.load.command)}
    for metric, words in METRICS.items():
        record = fidelity.record(metric)
        if record is not None:
            found[words] = [record.original, record.clone, record.error, record.noise, record.error_kind]
    gaps = [
        abs(a - b)
        for curve in fidelity.curves
        for size, a, b in zip(curve.sizes_bytes, curve.original, curve.clone, strict=True)
        if size >= 1024
    ]
    if gaps:
        found[WIDEST] = [0.0, max(gaps), max(gaps), None, "absolute"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("clone", type=Path)
    arguments = parser.parse_args()
    found = compared(arguments.name, arguments.clone)
    for words, value in (found or {}).items():
        print(words, value)


if __name__ == "__main__":
    main()
