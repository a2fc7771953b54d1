"""User instructions per request of an app and of its clone, by callgrind: a tool of neither side.

Each side runs under callgrind under one load and under three; the difference is what a load executes, start-up and
filling left out.  Original and clone take turns, and the median of several turns is given with the original's own
spread: what an app does by the clock weighs much under a tool that slows it thirtyfold, and differs from run to run.

    python benchmarks/callgrind.py examples/redis.toml build/redis/clone
"""

from __future__ import annotations

import argparse
import re
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ditto.artifacts.app import AppSpec, load_app
from ditto.host.app import AppRun
from ditto.host.requests import Passes, count_requests

CALLGRIND = ("valgrind", "-q", "--tool=callgrind", "--fair-sched=yes", "--trace-children=yes", "--vgdb=no")
"""Without the debugger's pipes in /tmp: a program that becomes another user and executes one cannot remove them, and
ends."""
CACHES = (
    "--cache-sim=yes", "--branch-sim=yes", "--I1=32768,8,64", "--D1=49152,12,64", "--LL=33554432,16,64",
)  # fmt: skip
"""Simulated: I1 32 KiB, D1 48 KiB, LL 32 MiB, and callgrind's own branch predictor."""
MISSES = {
    "I1 misses": ("I1mr",),
    "D1 misses": ("D1mr", "D1mw"),
    "LL misses": ("ILmr", "DLmr", "DLmw"),
    "branch misses": ("Bcm", "Bim"),
    "indirect branches": ("Bi",),
}
"""What is told of them, and the events that it is the sum of."""


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
    long, many = counted(spec, clone, 3, passes, options)
    return Instructions(many - few, {n: (long[n] - short.get(n, 0.0)) / max(1.0, many - few) for n in long})


@dataclass(frozen=True)
class Compared:
    """Both sides in turns: medians per request of each event, and the relative spread of the original's ``Ir``."""

    original: dict[str, float]
    clone: dict[str, float]
    spread: float

    @property
    def error(self) -> float:
        """Relative error of the instructions."""
        return self.clone["Ir"] / self.original["Ir"] - 1


def compared(
    spec: AppSpec, clone: Sequence[str], passes: float = 1.0, turns: int = 3, options: Sequence[str] = ()
) -> Compared:
    """Original and clone interleaved, ``turns`` times each."""
    found: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(turns):
        for side, command in zip(found, (None, clone), strict=True):
            side.append(per_request(spec, command, passes, options).events)
    a, b = ({name: median(events[name] for events in side) for name in side[0]} for side in found)
    own = [events["Ir"] for events in found[0]]
    return Compared(a, b, (max(own) - min(own)) / a["Ir"])


def per_thousand(events: dict[str, float]) -> dict[str, float]:
    """Misses per 1000 instructions, by the names of `MISSES`."""
    return {
        name: 1000 * sum(events.get(event, 0.0) for event in parts) / events["Ir"] for name, parts in MISSES.items()
    }


def load_for_callgrind(path: Path) -> AppSpec:
    """The app, started as its table ``x-callgrind`` says where it has one: Valgrind's limits are not those of lens."""
    spec = load_app(path)
    own = tomllib.loads(path.read_text()).get("x-callgrind")
    if own is None:
        return spec
    entry = spec.service.model_copy(update={"lens_command": tuple(own["command"])})
    return spec.model_copy(update={"services": (entry, *spec.services[1:])})


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
    parser.add_argument("--turns", type=int, default=3, help="measurements of each side")
    arguments = parser.parse_args()
    spec = load_for_callgrind(arguments.app)
    found = compared(spec, command_of(arguments.clone), arguments.passes, arguments.turns)
    a, b = found.original["Ir"], found.clone["Ir"]
    print(f"original {a:.0f} (spread {found.spread:.1%}), clone {b:.0f}: {found.error:+.1%}")
    caches = compared(spec, command_of(arguments.clone), arguments.passes, 1, CACHES)
    for (name, first), second in zip(
        per_thousand(caches.original).items(), per_thousand(caches.clone).values(), strict=True
    ):
        print(f"{name} per 1000 instructions: original {first:.2f}, clone {second:.2f}")


if __name__ == "__main__":
    main()
