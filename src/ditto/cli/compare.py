"""``ditto compare``: two certificates side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditto.cli.common import AsJson, show

if TYPE_CHECKING:
    from ditto.artifacts.fidelity import Record

NAME = "compare"
EXAMPLE = "ditto compare build/redis/fidelity.json from-elsewhere/fidelity.json"


def command(
    first: Annotated[Path, typer.Argument(metavar="FIDELITY.json", help="A certificate.")],
    second: Annotated[Path, typer.Argument(metavar="FIDELITY.json", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show two certificates side by side, and flag what differs beside the clones: the machine, the load."""
    from ditto.artifacts.certificates import compared
    from ditto.artifacts.fidelity import load_fidelity

    found = compared(load_fidelity(first), load_fidelity(second))
    lines = [f"differs: {flag}" for flag in found.flags]
    if any(flag.startswith("machine") for flag in found.flags):
        lines.append("The machines differ: times, rates and their noise cannot be held against each other.")
    lines.append(f"{'metric':38} {'first':>22} {'second':>22}")
    for pair in found.pairs:
        lines.append(f"{pair.metric:38} {_error(pair.first):>22} {_error(pair.second):>22}")
    rows = [
        {"metric": p.metric, "unit": p.unit, "first": _as_json(p.first), "second": _as_json(p.second)}
        for p in found.pairs
    ]
    show({"flags": list(found.flags), "metrics": rows}, as_json, "\n".join(lines))


def _error(record: Record | None) -> str:
    """The error with its noise in brackets."""
    if record is None or record.error is None:
        return "-"
    if record.error_kind == "absolute":
        return f"{record.error:+.3g}"
    noise = "" if record.noise is None else f" ({record.noise:.1%})"
    return f"{record.error:+.1%}{noise}"


def _as_json(record: Record | None) -> dict[str, object] | None:
    if record is None:
        return None
    return {
        "original": record.original,
        "clone": record.clone,
        "error": record.error,
        "noise": record.noise,
        "verdict": str(record.verdict),
    }
