"""The settings of each kind of study: what is changed, by how much, and what the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ditto.artifacts.study import Setting
from ditto.artifacts.study_kind import StudyKind
from ditto.errors import BadInputError
from ditto.host.stress import Stressor

CORES = (0.25, 0.5, 1.0, 2.0)
MEMORY = (1.5, 1.1, 0.9, 0.7, 0.5)
LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1)
"""Fractions of the rate that the original reaches; beyond 1 it shows how both behave when overloaded."""
CONNECTIONS = (1, 4, 16, 64)
"""The fewest are what the others are compared with."""
TIERS = (0.5,)
"""Of the CPU time that each tier of the original uses at saturation."""
LEAST_CORES = 0.02
"""Of a tier that is studied: what is allowed is a part of that, and the kernel takes no less than a hundredth."""
USUAL_LOAD = 0.5
"""The load nearest to this is the unchanged one: enough to be steady, far from saturation."""
_RANGES = {
    StudyKind.CORES: (0.02, 1024.0),
    StudyKind.MEMORY: (0.01, 1000.0),
    StudyKind.LOAD: (0.001, 10.0),
    StudyKind.CONNECTIONS: (1.0, 10_000.0),
    StudyKind.TIERS: (0.01, 1.0),
}
_MOST_SETTINGS = 50

AXES = {
    StudyKind.INTERFERENCE: "",
    StudyKind.CORES: "cores allowed",
    StudyKind.MEMORY: "memory allowed, of the original's resident size",
    StudyKind.LOAD: "requests/s offered",
    StudyKind.CONNECTIONS: "connections",
    StudyKind.TIERS: "",
}


@dataclass(frozen=True)
class Scale:
    """What the original reaches when nothing is changed: requests a second, and resident bytes under that load.

    Attributes:
        cores: that each service of several uses then, by its name.
    """

    rate: float
    memory_bytes: int
    cores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One setting and what it does; everything None is the unchanged one.

    Attributes:
        cores: CPU quota of the server.
        memory_bytes: its memory limit, the same for both sides.
        stressor: what works beside it, on the server's core (``same_core``) or on another.
        rate: requests a second; None for a closed loop.
        connections: in place of the study's own number.
        service: of several, the one that is changed; all without it.
    """

    setting: Setting
    cores: float | None = None
    memory_bytes: int | None = None
    stressor: Stressor | None = None
    same_core: bool = False
    rate: float | None = None
    connections: int | None = None
    service: str | None = None


def check_values(kind: StudyKind, at: Sequence[float]) -> None:
    """Refuse values that a kind cannot have.

    Raises:
        BadInputError: names the value and the range.
    """
    if kind not in _RANGES:
        if at:
            raise BadInputError(f"study {kind}: it has settings of its own", "leave --at out")
        return
    low, high = _RANGES[kind]
    for value in at:
        if not low <= value <= high:
            raise BadInputError(f"study {kind}: --at {value:g} is out of range", f"give {low:g} to {high:g}")
    if len(at) > _MOST_SETTINGS:
        raise BadInputError(f"study {kind}: {len(at)} settings", f"give at most {_MOST_SETTINGS}")


def changes_of(kind: StudyKind, at: Sequence[float], scale: Scale, tiers: Mapping[str, str]) -> list[Change]:
    """The settings of a study, in the order of the runs; one of them is the unchanged one.

    Args:
        at: values to use in place of the usual ones (see `check_values`); each once, in ascending order.
        tiers: of an app of several services, the tier of each by its name.

    Raises:
        BadInputError: no tier uses enough CPU time to be allowed less.
    """
    if kind is StudyKind.INTERFERENCE:
        return [Change(Setting(name="alone", text="no neighbour", unchanged=True)), *_neighbours()]
    values = sorted(set(at))
    if kind is StudyKind.CORES:
        free = Change(Setting(name="unlimited", text="no quota", unchanged=True))
        return [free, *(_cores(value) for value in values or CORES)]
    if kind is StudyKind.MEMORY:
        free = Change(Setting(name="unlimited", text="no limit", unchanged=True))
        return [free, *(_memory(value, scale) for value in values or MEMORY)]
    if kind is StudyKind.CONNECTIONS:
        numbers = sorted({round(value) for value in values or CONNECTIONS})
        return [_connections(number, number == numbers[0]) for number in numbers]
    if kind is StudyKind.TIERS:
        busy = [(name, tier) for name, tier in tiers.items() if scale.cores.get(name, 0.0) >= LEAST_CORES]
        if not busy:
            raise BadInputError(f"study {kind}: no service uses {LEAST_CORES:g} cores", "load the app with more")
        free = Change(Setting(name="unlimited", text="no quota", unchanged=True))
        return [free, *(_tier(name, tier, value, scale) for name, tier in busy for value in values or TIERS)]
    values = values or list(LOADS)
    usual = min(values, key=lambda value: abs(value - USUAL_LOAD))
    return [_load(value, scale, value == usual) for value in values]


def _neighbours() -> list[Change]:
    return [
        Change(
            Setting(
                name=f"{stressor}-{'same' if same else 'other'}-core",
                text=f"{_WHAT[stressor]}, {'same' if same else 'neighbouring'} core",
            ),
            stressor=stressor,
            same_core=same,
        )
        for same in (False, True)
        for stressor in Stressor
    ]


_WHAT = {Stressor.CPU: "arithmetic", Stressor.CACHE: "caches", Stressor.MEMORY: "memory bandwidth"}


def _cores(value: float) -> Change:
    text = f"{value:g} core" if value == 1 else f"{value:g} cores"
    return Change(Setting(name=f"cores-{value:g}", text=text, value=value), cores=value)


def _tier(service: str, tier: str, value: float, scale: Scale) -> Change:
    cores = scale.cores[service]
    text = f"{tier} with {value * 100:g} % of the {cores:.2f} cores that the original's uses"
    return Change(Setting(name=f"{tier}-{value:g}", text=text, value=value), cores=value * cores, service=service)


def _memory(value: float, scale: Scale) -> Change:
    size = max(1 << 20, round(value * scale.memory_bytes))
    text = f"{value:g} of resident, {size / (1 << 20):.1f} MiB"
    return Change(Setting(name=f"memory-{value:g}", text=text, value=value), memory_bytes=size)


def _connections(number: int, unchanged: bool) -> Change:
    text = "1 connection" if number == 1 else f"{number} connections"
    setting = Setting(name=f"connections-{number}", text=text, value=float(number), unchanged=unchanged)
    return Change(setting, connections=number)


def _load(value: float, scale: Scale, usual: bool) -> Change:
    rate = max(1.0, value * scale.rate)
    step = 10 ** max(0, len(str(int(rate))) - 3)
    rate = float(max(1, round(rate / step) * step))
    text = f"{rate:,.0f}/s, {value * 100:g} %"
    return Change(Setting(name=f"load-{value:g}", text=text, value=rate, unchanged=usual), rate=rate)
