"""What is said of an error: bounds asked of a metric, and whether an error is inside the noise or a bound."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Verdict(StrEnum):
    """What a record says.

    ``INSIDE_NOISE``: the error is no larger than the original's difference from itself.  ``INSIDE_BOUND``: larger
    than that, but within the bound asked for.  ``OUTSIDE``: beyond both.  ``NO_BOUND``: beyond the noise (or
    that is not known), and no bound is asked for.  ``NOT_AVAILABLE``: not measured on this machine or for this app.
    """

    INSIDE_NOISE = "inside noise"
    INSIDE_BOUND = "inside bound"
    OUTSIDE = "outside"
    NO_BOUND = "no bound asked"
    NOT_AVAILABLE = "not available"


class Bound(BaseModel):
    """What is asked of a metric; any part that holds is enough.

    Attributes:
        relative: largest relative error, as a fraction.
        absolute: largest absolute error, in the metric's unit.
        noise_multiple: or this many times the noise (for what depends on timing).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    relative: float | None = None
    absolute: float | None = None
    noise_multiple: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.relative is not None:
            parts.append(f"{self.relative * 100:g} %")
        if self.absolute is not None:
            parts.append(f"{self.absolute:g}")
        if self.noise_multiple is not None:
            parts.append(f"{self.noise_multiple:g} times the noise")
        return " or ".join(parts)


def judge(
    error: float | None,
    error_kind: Literal["relative", "absolute"],
    original: float | None,
    noise: float | None,
    bound: Bound | None,
) -> Verdict:
    """The verdict of a record with these values (units and kinds as in `Record`)."""
    if error is None:
        return Verdict.NOT_AVAILABLE
    size = abs(error)
    if noise is not None and size <= noise:
        return Verdict.INSIDE_NOISE
    if bound is None:
        return Verdict.NO_BOUND
    in_unit = size * abs(original or 0.0) if error_kind == "relative" else size
    inside = (
        (bound.relative is not None and error_kind == "relative" and size <= bound.relative)
        or (bound.absolute is not None and in_unit <= bound.absolute)
        or (bound.noise_multiple is not None and noise is not None and size <= bound.noise_multiple * noise)
    )
    return Verdict.INSIDE_BOUND if inside else Verdict.OUTSIDE
