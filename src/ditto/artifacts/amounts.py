"""Work as plain amounts, which can be added, subtracted and scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ditto.artifacts.work import DISTANCE_BUCKETS, Work

Vector = NDArray[np.float64]

_SCALARS = (
    "instructions", "loads", "stores", "branches", "predictor_misses", "indirect", "indirect_misses", "calls",
    "code_set_misses", "data_set_misses", "indirect_shared",
)  # fmt: skip
_COUNTED = {
    "load_distance": DISTANCE_BUCKETS, "store_distance": DISTANCE_BUCKETS, "code_distance": DISTANCE_BUCKETS,
    "page_distance": DISTANCE_BUCKETS, "shared_loads": DISTANCE_BUCKETS, "shared_stores": DISTANCE_BUCKETS,
    "branch_bins": 100,
}  # fmt: skip
DISTANCES = ("load_distance", "store_distance", "code_distance", "page_distance")
_DEPENDENCES = ("raw", "war", "waw")
_DEPENDENCE_BUCKETS = 8
_EXTRA = ("stride", "chase")


def _places() -> dict[str, slice]:
    places: dict[str, slice] = {}
    at = 0
    sizes: dict[str, int] = dict.fromkeys(_SCALARS, 1) | _COUNTED
    sizes |= dict.fromkeys(_DEPENDENCES, _DEPENDENCE_BUCKETS) | dict.fromkeys(_EXTRA, 1)
    for name, size in sizes.items():
        places[name] = slice(at, at + size)
        at += size
    return places


_PLACES = _places()
_SIZE = max(place.stop for place in _PLACES.values())


@dataclass(frozen=True)
class Amounts:
    """Counts that add up; may be negative, as differences are.

    Attributes:
        values: all but the mix, in a fixed layout; see :meth:`of`.
        mix: instructions of each iform class.
    """

    values: Vector = field(default_factory=lambda: np.zeros(_SIZE))
    mix: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> Vector:
        """One part by its name in :class:`Work`; ``stride`` and ``chase`` count accesses and loads."""
        return self.values[_PLACES[name]]

    def number(self, name: str) -> float:
        """A part that is one number."""
        return float(self.of(name)[0])

    @property
    def instructions(self) -> float:
        return self.number("instructions")

    def __add__(self, other: Amounts) -> Amounts:
        mix = {n: self.mix.get(n, 0.0) + other.mix.get(n, 0.0) for n in sorted(self.mix.keys() | other.mix.keys())}
        return Amounts(self.values + other.values, mix)

    def __mul__(self, factor: float) -> Amounts:
        return Amounts(self.values * factor, {n: v * factor for n, v in self.mix.items()})

    def __sub__(self, other: Amounts) -> Amounts:
        return self + other * -1.0


def amounts_of(work: Work) -> Amounts:
    """The counts of one run; dependence shares weigh as many as there are instructions."""
    values = np.zeros(_SIZE)

    def put(name: str, numbers: list[float], scale: float = 1.0) -> None:
        place = values[_PLACES[name]]
        chosen = np.asarray(numbers[: len(place)], dtype=np.float64)
        place[: len(chosen)] = chosen * scale

    for name in _SCALARS:
        put(name, [getattr(work, name)])
    for name in _COUNTED:
        put(name, getattr(work, name))
    for name in _DEPENDENCES:
        put(name, getattr(work, name), work.instructions)
    put("stride", [work.stride_share * (work.loads + work.stores)])
    put("chase", [work.chase_share * work.loads])
    return Amounts(values, {n: share * work.instructions for n, share in sorted(work.mix.items())})


_DEEP = 6
"""First bucket of stack distances that no stack frame or request buffer has: 32 lines and more."""


def _settled(histogram: Vector) -> Vector:
    """Buckets below zero are made up for by the next nearer ones, so that the counts beyond a distance stay."""
    out = histogram.copy()
    for bucket in range(len(out) - 1, 0, -1):
        if out[bucket] < 0:
            out[bucket - 1] += out[bucket]
            out[bucket] = 0.0
    return out


def work_of(amounts: Amounts, like: Work) -> Work:
    """Amounts as work again, below zero as zero; what does not add up (targets, lines) is taken from ``like``."""
    values = amounts.values.copy()
    for name in DISTANCES:
        values[_PLACES[name]] = _settled(values[_PLACES[name]])
    values = np.clip(values, 0.0, 1e12)

    def get(name: str) -> list[float]:
        return [float(v) for v in values[_PLACES[name]]]

    for name, histogram in (("loads", "load_distance"), ("stores", "store_distance")):
        # What lies deep is asked for even where the runtime alone makes too many accesses, nearly all of them near.
        deep = values[_PLACES[histogram]][_DEEP:].sum()
        values[_PLACES[name]] = np.maximum(values[_PLACES[name]], deep)
    mix = {n: v for n, v in amounts.mix.items() if v > 0}
    total = sum(mix.values())
    changes: dict[str, object] = {name: get(name)[0] for name in _SCALARS}
    changes |= {name: get(name) for name in _COUNTED}
    for name in _DEPENDENCES:
        counts = get(name)
        whole = sum(counts)
        changes[name] = [v / whole for v in counts] if whole > 0 else list(getattr(like, name))
    accesses = get("loads")[0] + get("stores")[0]
    return Work.model_validate(
        {
            **{name: getattr(like, name) for name in Work.model_fields},
            **changes,
            "code_touches": sum(get("code_distance")),
            "stride_share": min(1.0, get("stride")[0] / accesses) if accesses else 0.0,
            "chase_share": min(1.0, get("chase")[0] / get("loads")[0]) if get("loads")[0] else 0.0,
            "mix": {n: v / total for n, v in mix.items()} if total > 0 else dict(like.mix),
        }
    )
