"""Records of the hardware counters: instructions per cycle and misses, in user and in kernel mode."""

from __future__ import annotations

from collections.abc import Sequence

from ditto.artifacts.fidelity import Samples, Unavailable
from ditto.host.counters import MODES, Counts, Mode
from ditto.validate.compare import Figures, figure, missing
from ditto.validate.runs import Side, TimedRun

GROUP = "hardware"
_MISSES = (
    "branch_misses",
    "l1i_misses",
    "l1d_misses",
    "l2_misses",
    "llc_misses",
    "itlb_misses",
    "dtlb_misses",
)
_NEAR_ZERO = 0.01
_WHAT = "hardware counters (IPC, misses of caches, TLBs and branches)"


def hardware_figures(runs: Sequence[TimedRun], seed: int) -> tuple[Figures, tuple[Unavailable, ...]]:
    """Records of the timed runs, or why there are none.

    A record is made of the runs that have its counts; one that no run of a side has says why.
    """
    counted = [run.usage.counts for run in runs if run.usage.counts is not None]
    if not any(counts.values for counts in counted):
        why = counted[0].reason if counted else "not asked for"
        return Figures(), (Unavailable(what=_WHAT, why=why, remedy="`ditto doctor` tells what is missing"),)
    share = min(counts.running for counts in counted if counts.values)
    how = "measured: perf_event on all server threads over the client's run"
    if share < 1.0:
        how += f"; events took turns on the counters, each counted at least {share:.0%} of the time"
    total = Figures()
    for mode in MODES:
        for name, unit, above, below, scale in _ratios(mode):
            metric = f"hardware.{name}_{mode}"
            sides: dict[Side, list[float]] = {
                side: _values(runs, side, above, below, scale) for side in ("original", "clone", "empty_body")
            }
            if not sides["original"] or not sides["clone"]:
                keys = [key for key in (above, below) if key is not None]
                total += missing(metric, unit, GROUP, _why(counted, keys))
                continue
            samples = Samples(original=sides["original"], clone=sides["clone"], empty_body=sides["empty_body"])
            total += figure(metric, unit, GROUP, samples, f"{how}, {mode} mode", None, _NEAR_ZERO, seed)
    return total, ()


_Ratio = tuple[str, str, tuple[str, Mode], tuple[str, Mode] | None, float]


def _ratios(mode: Mode) -> list[_Ratio]:
    """Name, unit, what is divided by what (None: by requests), and by what that is multiplied."""
    instructions: tuple[str, Mode] = ("instructions", mode)
    return [
        ("ipc", "instructions/cycle", instructions, ("cycles", mode), 1.0),
        ("instructions_per_request", "instructions", instructions, None, 1.0),
        *((name, "misses/1000 instructions", (name, mode), instructions, 1000.0) for name in _MISSES),
    ]


def _values(
    runs: Sequence[TimedRun], side: Side, above: tuple[str, Mode], below: tuple[str, Mode] | None, scale: float
) -> list[float]:
    found = []
    for run in runs:
        values = run.usage.counts.values if run.side == side and run.usage.counts is not None else {}
        divisor = run.requests if below is None else values.get(below, 0.0)
        if above in values and divisor > 0:
            found.append(scale * values[above] / divisor)
    return found


def _why(counted: Sequence[Counts], keys: Sequence[tuple[str, Mode]]) -> str:
    reasons = (counts.missing[key] for counts in counted for key in keys if key in counts.missing)
    return next(reasons, "this processor has no such event that is known")
