"""Built clones: their commands, and the services that they call."""

from __future__ import annotations

import json
from pathlib import Path

from ditto.errors import BadInputError


def clone_command(program: Path) -> list[str]:
    """The command of a built clone, with ``{port}`` for `AppRun` to fill in."""
    return [str(program.resolve()), "--port", "{port}"]


def built_clone(folder: Path) -> Path:
    """The program of the clone in ``folder``.

    Raises:
        BadInputError: it is not built.
    """
    program = folder.absolute() / "build" / "clone"
    if not program.is_file():
        raise BadInputError(f"{folder}: no built clone (build/clone is missing)", f"ditto build {folder}")
    return program


def called_services(program: str) -> int:
    """How many other services a built clone calls; none where it is no program of a clone's folder."""
    path = Path(program).parent.parent / "profile.json"
    try:
        services = json.loads(path.read_text(encoding="utf-8"))["services"]
        return len(services[0].get("downstreams", []))
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError):
        return 0
