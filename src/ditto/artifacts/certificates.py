"""Two certificates side by side: of two clones, two machines, or before and after a change."""

from __future__ import annotations

from dataclasses import dataclass

from ditto.artifacts.fidelity import Fidelity, Record


@dataclass(frozen=True)
class Pair:
    """One metric in both; None where a certificate does not have it."""

    metric: str
    unit: str
    first: Record | None
    second: Record | None


@dataclass(frozen=True)
class Comparison:
    """Both certificates, metric by metric.

    Attributes:
        flags: what makes the two less comparable, each with a name and both values.
        pairs: in the order of the first, then what only the second has.
    """

    flags: tuple[str, ...]
    pairs: tuple[Pair, ...]


def compared(first: Fidelity, second: Fidelity) -> Comparison:
    """Compare two certificates, and flag what differs beside the clones: machine, app, load, rounds."""
    flags = [
        f"machine: {name}: {_short(getattr(first.machine, name))} against {_short(getattr(second.machine, name))}"
        for name in first.machine.differences(second.machine)
    ]
    if first.app != second.app:
        flags.append(f"app: {first.app} against {second.app}")
    flags += [
        f"conditions: {name}: {_short(a)} against {_short(b)}"
        for name in ("load", "connections", "rounds", "seconds")
        if (a := getattr(first.conditions, name)) != (b := getattr(second.conditions, name))
    ]
    names = dict.fromkeys([r.metric for r in first.records] + [r.metric for r in second.records])
    pairs = []
    for name in names:
        a, b = first.record(name), second.record(name)
        known = a or b
        pairs.append(Pair(name, known.unit if known else "", a, b))
    return Comparison(tuple(flags), tuple(pairs))


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
