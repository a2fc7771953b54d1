"""``ditto validate``: original and clone side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditto.cli.common import AppFile, AsJson, CloneFolder
from ditto.cli.progress import shown
from ditto.errors import CheckFailedError

if TYPE_CHECKING:
    from ditto.artifacts.fidelity import Fidelity, Record

NAME = "validate"
EXAMPLE = "ditto validate examples/redis.toml build/redis/clone --max-error 0.1"


def command(
    app: AppFile,
    clone: CloneFolder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for fidelity.json (default: none).")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of original and clone in turn.")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of load per round and side.")] = 3.0,
    max_error: Annotated[
        float | None,
        typer.Option("--max-error", min=0.0, help="End with code 4 if a figure is further off (0.1 is 10 %)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run original and clone in turn under the same client, and compare them metric by metric."""
    from ditto import pipeline

    with shown() as progress:
        fidelity = pipeline.validate(app, clone, out, rounds, seconds, progress)
    typer.echo(fidelity.model_dump_json(indent=2) if as_json else as_text(fidelity))
    if max_error is not None and (beyond := fidelity.beyond(max_error)):
        worst = max(beyond, key=lambda record: abs(record.error or 0.0))
        raise CheckFailedError(
            f"{len(beyond)} of {len(fidelity.records)} figures are further off than {max_error:.1%} and their noise; "
            f"the furthest is {worst.metric} ({worst.error:+.1%})",
            "the table above shows each; a longer --seconds lowers the noise",
        )


def as_text(fidelity: Fidelity) -> str:
    """The comparison as a plain table."""
    lines = [f"{'metric':40} {'unit':>14} {'original':>13} {'clone':>13} {'error':>9} {'noise':>8}  verdict"]
    for record in fidelity.records:
        error, noise = _error(record, record.error, "+"), _error(record, record.noise, "")
        lines.append(
            f"{record.metric:40} {record.unit:>14} {_figure(record.original):>13} {_figure(record.clone):>13} "
            f"{error:>9} {noise:>8}  {record.verdict}"
        )
    lines.append(str(fidelity.summary))
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _error(record: Record, value: float | None, sign: str) -> str:
    if value is None:
        return "-"
    return f"{value:{sign}.1%}" if record.error_kind == "relative" else f"{value:{sign}.3g}"
