"""Entry of the ``ditto`` command: parses, runs one command, and turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from ditto import __version__
from ditto.cli import (
    build,
    clone,
    compare,
    deploy,
    doctor,
    generate,
    load,
    model,
    observe,
    report,
    run,
    study,
    topology,
    tune,
    validate,
)
from ditto.cli.entry import EXIT_INTERRUPTED
from ditto.errors import DittoError
from ditto.host import interrupts

EXIT_BAD_INPUT = 2
EXIT_NO_SPACE = 6
EXIT_UNEXPECTED = 70

app = typer.Typer(
    name="ditto",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 bad input, 3 missing capability, 4 failed check, 5 the app failed, "
    "6 the recording failed or no space was left, 7 unsupported kind of server, 70 a defect of ditto, 130 interrupted. "
    "Example: ditto clone examples/redis.toml -o build/redis",
)

for _module in (
    doctor,
    clone,
    observe,
    model,
    generate,
    build,
    run,
    load,
    tune,
    validate,
    study,
    report,
    compare,
    deploy,
    topology,
):
    app.command(name=_module.NAME, epilog=f"Example: {_module.EXAMPLE}")(_module.command)


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in ditto an error came from.")] = False,
) -> None:
    """Observe a running Linux service, and generate a synthetic clone that loads the machine the same way."""
    if version:
        typer.echo(f"ditto {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_BAD_INPUT)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    interrupts.install()
    code = run_guarded(words)
    _give_up_output()
    sys.exit(code)


def _give_up_output() -> None:
    """Let go of output that cannot be written, as was told: at its end, the interpreter would try again and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_guarded(words: list[str]) -> int:
    """Run the command line ``words``; the exit code, after any error was printed."""
    debug = "--debug" in words[:2] or bool(os.environ.get("DITTO_DEBUG"))
    try:
        result = app(args=words, prog_name="ditto", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:
            _say("interrupted; everything that was started has been ended")
        return code
    except KeyboardInterrupt:
        _say("interrupted; everything that was started has been ended")
        return EXIT_INTERRUPTED
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error, debug)


def _explain(error: Exception, debug: bool) -> int:
    """Print one error as ``ditto: error: ...`` and give its exit code."""
    if isinstance(error, DittoError):
        _say(f"error: {error.message}")
        if error.remedy:
            _say(f"remedy: {error.remedy}")
        return error.exit_code
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        _say(f"error: {format_message()}")
        if context is not None:
            _say(f"remedy: {context.command_path} --help shows its use")
        return EXIT_BAD_INPUT
    if isinstance(error, OSError):
        place = error.filename
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say(f"error: no space left on {place or _full_disks()}")
            _say("remedy: free some space, or give a folder on another disk with -o or TMPDIR")
            return EXIT_NO_SPACE
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR) and error.filename:
            _say(f"error: {place}: {os.strerror(error.errno)}")
            _say("remedy: give a place that this user may write")
            return EXIT_BAD_INPUT
    _say(f"error: {type(error).__name__}: {error}")
    if not debug:
        _say("remedy: this is a defect of ditto; run it again as `ditto --debug ...` and report what it prints")
    return EXIT_UNEXPECTED


def _full_disks() -> str:
    """Mounted disks without space, for an error that does not name its file."""
    full = []
    with Path("/proc/mounts").open(encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            place = line.split()[1].replace("\\040", " ")
            try:
                state = os.statvfs(place)
            except OSError:
                continue
            if state.f_blocks and state.f_bavail * state.f_frsize < 1 << 20 and not state.f_flag & os.ST_RDONLY:
                full.append(place)
    return ", ".join(full) or "the device written to"


def _say(text: str) -> None:
    print(f"ditto: {' '.join(text.split())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
