"""Instructions, instruction mix and miss ratios of both sides, from runs under the lens tool where it is there.

The original runs twice, for its own spread, the others once: what the lens counts hardly varies.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ditto.artifacts.fidelity import Curve, Dropped, Histogram, MixShare, Samples, Unavailable
from ditto.artifacts.lens import BUCKETS, LensProcess
from ditto.errors import DittoError, MissingCapabilityError
from ditto.host.lens import LensRun
from ditto.host.lens_session import warm_up
from ditto.host.progress import Progress
from ditto.host.requests import Passes, count_requests
from ditto.streams.lens_read import LensReader
from ditto.validate.compare import INSTRUCTIONS, Figures, figure, missing
from ditto.validate.runs import Side, Sides

LINE_BYTES = 64
SIZES = [LINE_BYTES << step for step in range(BUCKETS - 2)]
"""Cache sizes of the curves, 64 B to 128 MiB."""
_MARKS = (32 << 10, 1 << 20)
"""Cache sizes that have a record of their own."""
_CURVES = ("loads", "stores", "code")
_TENTHS = [f"{low} to {low + 10} %" for low in range(0, 100, 10)]
_DISTANCES = ["1", "2", "3 to 4", "5 to 8", "9 to 16", "17 to 32", "33 to 64", "more"]
HISTOGRAMS = {
    "branch_taken": _TENTHS,
    "branch_transition": _TENTHS,
    "raw": _DISTANCES,
    "war": _DISTANCES,
    "waw": _DISTANCES,
}
"""Labels of the buckets, by name."""


@dataclass(frozen=True)
class LensFigures:
    """What one side executed, per request, over all its processes and threads.

    Attributes:
        histograms: by curve, accesses per request in the buckets of `ditto.artifacts.lens`.
        mix: iform class to its share of the instructions.
        shares: of the buckets of `HISTOGRAMS`.
        dropped: what the lens could not record.
    """

    side: Side
    requests: float
    instructions: float
    histograms: dict[str, NDArray[np.float64]]
    mix: dict[str, float]
    shares: dict[str, NDArray[np.float64]]
    branches: float
    mispredicted: float
    indirect: float
    dropped: int


@dataclass(frozen=True)
class Instructions:
    """What the lens runs gave, or why there are none."""

    figures: Figures = field(default_factory=Figures)
    curves: tuple[Curve, ...] = ()
    mix: tuple[MixShare, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()


def compare_instructions(
    sides: Sides, wanted: bool, passes: Passes, pattern: str | None, seed: int, progress: Progress
) -> Instructions:
    """Run all sides under the lens with the app's lens load, and compare.

    What cannot run there (the tool is missing, the program fails under it) is marked, not raised.
    """
    if not wanted:
        return _without("not asked for", "")
    found: dict[Side, list[LensFigures]] = {}
    unavailable: list[Unavailable] = []
    order: list[Side] = [*sides.order, "original"]
    for number, side in enumerate(order):
        progress.update(f"counting instructions: {side.replace('_', ' ')}", number / len(order))
        try:
            found.setdefault(side, []).append(lens_side(sides, side, passes, pattern))
        except MissingCapabilityError as error:
            return _without(error.message, error.remedy)
        except DittoError as error:
            if side != "empty_body":
                return _without(f"the {side} could not be counted: {error.message}", error.remedy)
            del found[side]
            unavailable.append(
                Unavailable(what="instructions of the empty body", why=error.message, remedy=error.remedy)
            )
    dropped = [
        Dropped(
            what=f"accesses and classes the lens left out ({side.replace('_', ' ')})",
            count=sum(figures.dropped for figures in runs),
        )
        for side, runs in found.items()
    ]
    return Instructions(
        _figures(found, seed), _curves(found), _mix(found), _histograms(found), tuple(dropped), tuple(unavailable)
    )


def _without(why: str, remedy: str) -> Instructions:
    return Instructions(
        figures=missing("instructions.user_per_request", "instructions", "instructions", why, INSTRUCTIONS),
        unavailable=(Unavailable(what="instructions, instruction mix and miss ratios", why=why, remedy=remedy),),
    )


def lens_side(sides: Sides, side: Side, passes: Passes, pattern: str | None) -> LensFigures:
    """One side under the lens.

    Raises:
        MissingCapabilityError: valgrind or the tool is not there.
        AppError: the side or the client failed.
        RecordingError: a process wrote no file.
    """
    with tempfile.TemporaryDirectory(prefix="ditto-lens-") as folder:
        # A server that changes its user must still reach the folder that it writes to.
        Path(folder).chmod(0o755)
        lens = LensRun.create(Path(folder) / "out")
        with (
            lens.control,
            sides.run_of(side, "lens", lambda command, env: (lens.command(command), lens.env(env))) as run,
        ):
            run.prepare()
            asked = sides.spec.load.requests.lens if sides.spec.load.counts_requests else None
            lens.control.warm()
            warm_up(run, asked, side == "original")
            lens.control.count()
            result = run.load(asked)
            processes = lens.stop()
        requests = count_requests(result, asked, pattern, passes).requests
        return figures_of(side, processes, requests)


def figures_of(side: Side, processes: Sequence[LensProcess], requests: float) -> LensFigures:
    """Sum what the processes executed, per request."""

    def total(value: Callable[[LensProcess], float]) -> float:
        return sum(value(process) for process in processes) / requests

    histograms = {
        name: np.sum([np.asarray(getattr(p, key), np.float64).sum(axis=0) for p in processes], axis=0) / requests
        for name, key in zip(_CURVES, ("load_hist", "store_hist", "code_hist"), strict=True)
    }
    mix: Counter[str] = Counter()
    shares = {name: np.zeros(len(labels)) for name, labels in HISTOGRAMS.items()}
    for process in processes:
        summary = LensReader(process).summary()
        mix.update(summary.mix)
        shares["branch_taken"] += summary.branch_bins.sum(axis=1)
        shares["branch_transition"] += summary.branch_bins.sum(axis=0)
        for name in ("raw", "war", "waw"):
            shares[name] += getattr(summary, name)
    executed = sum(mix.values())
    return LensFigures(
        side=side,
        requests=requests,
        instructions=total(lambda p: float(p.instructions.sum())),
        histograms=histograms,
        mix={name: count / executed for name, count in mix.items()} if executed else {},
        shares={name: counts / counts.sum() for name, counts in shares.items() if counts.sum() > 0},
        branches=total(lambda p: float(p.branches["executions"].sum())),
        mispredicted=total(lambda p: float(p.branch_misses.sum())),
        indirect=total(lambda p: float(p.indirects["executions"][p.indirects["kind"] != 2].sum())),
        dropped=sum(p.dropped.accesses + p.dropped.classes for p in processes),
    )


def miss_ratios(histogram: NDArray[np.float64]) -> list[float]:
    """Misses per access at each of `SIZES`; empty where there was no access."""
    accesses = float(histogram.sum())
    if accesses <= 0:
        return []
    # A cache of 2**k lines hits buckets 0 to k, and misses the rest (summed from the far end: no difference of sums).
    misses = np.cumsum(histogram[::-1])[::-1][1 : len(SIZES) + 1]
    return [float(miss / accesses) for miss in misses]


_HOW = "measured: lens, all server threads, over the client's run under it, divided by its requests"
_PREDICTOR = f"{_HOW}; counters by 7 outcomes and 7 bits of the address, a reference and not this machine's predictor"
_LRU = "measured: lens, exact LRU stack distances of 64-byte lines, one stack a thread; misses per access"


def _figures(found: dict[Side, list[LensFigures]], seed: int) -> Figures:
    def of(value: Callable[[LensFigures], float]) -> Samples:
        return Samples(**{side: [value(figures) for figures in runs] for side, runs in found.items()})

    total = figure(
        "instructions.user_per_request", "instructions", "instructions", of(lambda f: f.instructions), _HOW,
        INSTRUCTIONS, seed=seed,
    )  # fmt: skip
    for name, unit in (("loads", "loads"), ("stores", "stores"), ("code", "line touches")):
        metric = "instructions.code_touches_per_request" if name == "code" else f"instructions.{name}_per_request"
        samples = of(lambda f, name=name: float(f.histograms[name].sum()))  # type: ignore[misc]
        total += figure(metric, unit, "instructions", samples, _HOW, seed=seed)
    total += figure("branches.conditional_per_request", "branches", "branches", of(lambda f: f.branches), _HOW)
    total += figure(
        "branches.mispredicted_per_request", "branches", "branches", of(lambda f: f.mispredicted), _PREDICTOR
    )
    total += figure(
        "branches.indirect_per_request", "branches", "branches", of(lambda f: f.indirect), _HOW, near_zero=0.01
    )
    for name in _CURVES:
        if not all(figures.histograms[name].sum() > 0 for runs in found.values() for figures in runs):
            continue
        for size in _MARKS:
            index = SIZES.index(size)
            samples = of(lambda f, name=name, index=index: miss_ratios(f.histograms[name])[index])  # type: ignore[misc]
            # A ratio of small ratios tells little: the difference is what counts.
            total += figure(f"{name}.miss_ratio.{size}", "misses/access", "cache", samples, _LRU, near_zero=1.0)
    reference = _mean_mix(found["original"])
    distance = of(lambda f: sum(abs(f.mix.get(n, 0) - reference.get(n, 0)) for n in set(f.mix) | set(reference)) / 2)
    how = (
        "measured: lens; half the sum of the differences of all shares from the original's mean, so the share of "
        "instructions that are of another class"
    )
    return total + figure("mix.distance", "share", "mix", distance, how, near_zero=1.0)


def _mean_mix(runs: Sequence[LensFigures]) -> dict[str, float]:
    names = sorted({name for figures in runs for name in figures.mix})
    return {name: sum(figures.mix.get(name, 0.0) for figures in runs) / len(runs) for name in names}


def _curves(found: dict[Side, list[LensFigures]]) -> tuple[Curve, ...]:
    def of(side: Side, name: str) -> list[float]:
        return miss_ratios(found[side][0].histograms[name]) if side in found else []

    return tuple(
        Curve(
            name=name, sizes_bytes=SIZES, original=of("original", name), clone=of("clone", name),
            empty_body=of("empty_body", name),
        )
        for name in _CURVES
    )  # fmt: skip


def _mix(found: dict[Side, list[LensFigures]]) -> tuple[MixShare, ...]:
    a, b = _mean_mix(found["original"]), found["clone"][0].mix
    empty = found["empty_body"][0].mix if "empty_body" in found else None
    return tuple(
        MixShare(
            name=name, original=a.get(name, 0.0), clone=b.get(name, 0.0),
            empty_body=None if empty is None else empty.get(name, 0.0),
        )
        for name in sorted(set(a) | set(b))
    )  # fmt: skip


def _histograms(found: dict[Side, list[LensFigures]]) -> tuple[Histogram, ...]:
    def of(side: Side, name: str) -> list[float]:
        shares = found[side][0].shares.get(name) if side in found else None
        return [] if shares is None else [float(share) for share in shares]

    return tuple(
        Histogram(
            name=name, labels=labels, original=of("original", name), clone=of("clone", name),
            empty_body=of("empty_body", name),
        )
        for name, labels in HISTOGRAMS.items()
    )  # fmt: skip
