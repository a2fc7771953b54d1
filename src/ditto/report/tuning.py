"""The rounds of tuning as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ditto.artifacts.fidelity import TuningRound
from ditto.report.text import NONE


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
            f"{r.error * 100:+.1f} %".replace("-", "\N{MINUS SIGN}"),
            tuple(f"{r.errors[name]:.1f}" if name in r.errors else NONE for name in names),
            r.change.split("; outside")[0],
        )
        for r in rounds
    ]
