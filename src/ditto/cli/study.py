"""``ditto study``: original and clone under the same change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditto.artifacts.study_kind import StudyKind
from ditto.cli.common import AppFile, AsJson, CloneFolder
from ditto.cli.progress import shown
from ditto.errors import CheckFailedError

if TYPE_CHECKING:
    from ditto.artifacts.study import Study, StudyRecord

NAME = "study"
EXAMPLE = "ditto study cores examples/redis.toml build/redis/clone -o build/redis --max-error 0.1"


def command(
    kind: Annotated[
        StudyKind,
        typer.Argument(
            metavar="interference|cores|memory|load|connections|tiers",
            help="What to change: a busy neighbour, the CPU time or memory allowed, the rate, the connections, "
            "the CPU time of one tier after the other.",
        ),
    ],
    app: AppFile,
    clone: CloneFolder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for study-KIND.json (default: none).")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Runs of each side under each setting.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.2, help="Seconds measured in each run.")] = 2.0,
    at: Annotated[
        list[float] | None,
        typer.Option(
            "--at",
            metavar="VALUE",
            help="A setting: cores, connections, part of the memory, of the rate or of a tier's CPU time (repeatable).",
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Requests to send (from ditto load --save-plan).")
    ] = None,
    connections: Annotated[
        int | None, typer.Option("--connections", "-c", min=1, help="Connections (default: as the app's load).")
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option("--max-error", min=0.0, help="End with code 4 if a change is further off (0.1 is 10 points)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run original and clone under the same change, and compare how much each changes."""
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.study(kind, app, clone, out, rounds, seconds, tuple(at or ()), plan, connections, progress)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        _print(made)
    if max_error is not None and (beyond := made.beyond(max_error)):
        worst = max(beyond, key=lambda record: abs(record.error_points or 0.0))
        judged = sum(record.judged for record in made.records)
        raise CheckFailedError(
            f"{len(beyond)} of {judged} judged changes are further off than {100 * max_error:g} points and their "
            f"noise; the furthest is {worst.metric} at {worst.setting} ({worst.error_points:+.1f} points)",
            "the table above shows each; more --rounds and a longer --seconds lower the noise",
        )


def _print(study: Study) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = {setting.name: setting.text for setting in study.settings}
    table = Table(title=f"{study.app}: {study.kind}", title_justify="left", box=None, pad_edge=False)
    # Folded where the window is narrow, never cut off.
    table.add_column("Setting", overflow="fold")
    for name in ("Original", "Clone", "Change", "Clone's", "Error", "Noise", "Quotient"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("Verdict", overflow="fold")
    for number, metric in enumerate(study.metrics):
        records = study.of_metric(metric)
        if number:
            table.add_row()
        table.add_row(Text(f"{metric}, {records[0].unit}", style="bold"))
        for record in records:
            table.add_row(
                f"  {texts.get(record.setting, record.setting)}",
                _figure(record.original),
                _figure(record.clone),
                _change(record.original_change),
                _change(record.clone_change),
                _points(record.error_points, "+"),
                _points(record.noise_points, ""),
                _change(record.error_factor),
                _verdict(record),
            )
    # As wide as it is where nobody looks at it in a window.
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=160)
    console.print(table)
    base = next((setting.text for setting in study.settings if setting.unchanged), "")
    console.print(
        f"Change: against {base} of the same side. Error, and the original's own noise: percentage points. "
        "Quotient: of the clone's change over the original's."
    )
    for note in study.notes:
        console.print(f"note: {note}")


def _verdict(record: StudyRecord) -> str:
    return f"{record.verdict}{', noisy' if record.too_noisy else ''}" if record.judged else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}" if abs(value) < 10 else f"x{value + 1:,.3g}"


def _points(value: float | None, sign: str) -> str:
    return "-" if value is None else f"{value:{sign}.1f}" if abs(value) < 1e3 else f"{value:{sign},.0f}"
