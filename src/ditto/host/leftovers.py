"""Folders of runs whose ditto was killed: kept while their app still runs, removed by a later run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ditto.host import process

PREFIX = "ditto-run-"
_OWNER = "owner"


def make_run_folder() -> Path:
    """A new private folder that names its owner, this process."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    me = process.identify(os.getpid())
    if me is not None:
        (folder / _OWNER).write_text(f"{me.pid} {me.start_ticks}\n")
    return folder


def remove_stale_folders() -> None:
    """Remove run folders of this user whose owner is gone and of whose app nothing runs any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            pid, ticks = (int(word) for word in (folder / _OWNER).read_text().split())
            if folder.stat().st_uid != os.getuid() or process.is_alive(process.ProcessId(pid, ticks)):
                continue
        except (OSError, ValueError):
            continue
        if not process.any_marked(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
