"""User instructions per request of an app and of its clone, by callgrind: a tool of neither side.

Each side runs under callgrind twice, under one load and under two; the difference is what one load executes, start-up
and filling left out.

    python benchmarks/callgrind.py examples/redis.toml build/redis/clone
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.app import AppSpec, load_app
from ditto.host.app import AppRun
from ditto.host.requests import Passes, count_requests

CALLGRIND = ("valgrind", "-q", "--tool=callgrind", "--fair-sched=yes", "--trace-children=yes")


@dataclass(frozen=True)
class Instructions:
    """Instructions and events of one load, per request."""

    requests: float
    events: dict[str, float]


def counted(
    spec: AppSpec, clone: Sequence[str] | None, loads: int, passes: float, options: Sequence[str] = ()
) -> tuple[dict[str, float], float]:
    """Events of a whole run with ``loads`` loads, and the requests they made."""
    with tempfile.TemporaryDirectory(prefix="ditto-callgrind-") as name:
        folder = Path(name)
        folder.chmod(0o1777)

        def wrap(command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
            return [*CALLGRIND, *options, f"--callgrind-out-file={folder}/out.%p", *command], environment

        run = AppRun(spec, wrap=wrap, which="lens", stop_patience_s=60.0) if clone is None else AppRun.for_clone(
            spec, list(clone), wrap=wrap, which="lens", stop_patience_s=60.0
        )  # fmt: skip
        asked = spec.load.requests.lens if spec.load.counts_requests else None
        requests = 0.0
        with run:
            run.prepare()
            for _ in range(loads):
                result = run.load()
                requests += count_requests(result, asked, spec.load.count, Passes(passes)).requests
        events: dict[str, float] = {}
        for path in folder.glob("out.*"):
            text = path.read_text(errors="replace")
            names = re.search(r"^events: (.*)$", text, re.MULTILINE)
            totals = re.search(r"^(?:summary|totals): (.*)$", text, re.MULTILINE)
            if names and totals:
                for event, value in zip(names[1].split(), totals[1].split(), strict=False):
                    events[event] = events.get(event, 0.0) + float(value)
    return events, requests


def per_request(
    spec: AppSpec, clone: Sequence[str] | None, passes: float = 1.0, options: Sequence[str] = ()
) -> Instructions:
    """The difference of two run lengths."""
    short, few = counted(spec, clone, 1, passes, options)
    long, many = counted(spec, clone, 2, passes, options)
    return Instructions(many - few, {n: (long[n] - short.get(n, 0.0)) / max(1.0, many - few) for n in long})


def command_of(clone: Path) -> list[str]:
    """The command of a built clone."""
    return [str((clone / "build" / "clone").resolve()), "--port", "{port}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("app", type=Path)
    parser.add_argument("clone", type=Path)
    parser.add_argument(
        "--passes", type=float, default=1.0, help="how often the client makes the number it is asked for"
    )
    arguments = parser.parse_args()
    spec = load_app(arguments.app)
    a = per_request(spec, None, arguments.passes)
    b = per_request(spec, command_of(arguments.clone), arguments.passes)
    print(f"original {a.events['Ir']:.0f}, clone {b.events['Ir']:.0f}: {b.events['Ir'] / a.events['Ir'] - 1:+.1%}")


if __name__ == "__main__":
    main()
