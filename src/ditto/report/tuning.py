"""The rounds of tuning as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ditto.artifacts.fidelity import TuningRound
from ditto.report.text import MINUS, NONE


@dataclass(frozen=True)
class RoundRow:
    """One round, as texts; ``cells`` are the errors by figure, in the order of `tuning_figures`."""

    name: str
    error: str
    cells: tuple[str, ...]
    change: str


def tuning_figures(rounds: Sequence[TuningRound]) -> list[str]:
    """The figures that rounds were judged by, in their first order."""
    return list(dict.fromkeys(name for r in rounds for name in r.errors))


def tuning_rows(rounds: Sequence[TuningRound]) -> list[RoundRow]:
    """A row a round."""
    names = tuning_figures(rounds)
    return [
        RoundRow(
            f"{r.phase} {r.number}",
            _percent(r.error),
            tuple(f"{r.errors[name]:.1f}" if name in r.errors else NONE for name in names),
            r.change.split("; outside")[0],
        )
        for r in rounds
    ]


@dataclass(frozen=True)
class Effect:
    """One figure without tuning and with it, as texts."""

    name: str
    without: str
    tuned: str


def tuning_effects(rounds: Sequence[TuningRound]) -> list[Effect]:
    """Each figure of the rounds, of the first clone with a body and of the one that was kept."""
    found = []
    judged = [r for r in rounds if r.errors]
    kept = [r for r in judged if _kept(r)]
    if judged:
        first, last = judged[0], (kept or judged)[-1]
        found += [
            Effect(name, f"{error:.1f}", f"{last.errors[name]:.1f}")
            for name, error in first.errors.items()
            if name in last.errors
        ]
    timed = [r for r in rounds if not r.errors and r.phase not in {j.phase for j in judged}]
    for phase in dict.fromkeys(r.phase for r in timed):
        of_phase = [r for r in timed if r.phase == phase]
        last = ([r for r in of_phase if _kept(r)] or of_phase)[-1]
        found.append(Effect(f"{phase}, relative", _percent(of_phase[0].error), _percent(last.error)))
    return found


def _kept(tuning_round: TuningRound) -> bool:
    return "kept" in tuning_round.change


def _percent(error: float) -> str:
    return f"{error * 100:+.1f} %".replace("-", MINUS)
