"""What a shell starts.  Commands and their libraries take a moment to load, and may be interrupted in it."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Load the commands, run the one that was asked for, and exit with its code."""
    try:
        from ditto.cli import main as commands
    except KeyboardInterrupt:
        print("ditto: interrupted; nothing was started", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    commands.main()
