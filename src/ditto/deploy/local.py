"""A clone as a supervised process on this machine: healthy before it is announced, its words kept, ended as a whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ditto.errors import AppError
from ditto.host import ports
from ditto.host.ready import last_lines

_READY_S = 15.0
_STOP_S = 5.0
_CHECK_S = 5.0


def run_local(
    binary: Path,
    host: str,
    port: int,
    log: Path,
    ready: Callable[[int], None],
    seconds: float | None = None,
) -> None:
    """Run a clone until it is interrupted, for ``seconds`` at most; check every few seconds that it answers.

    Args:
        log: where it prints to.
        ready: called with its process number when it answers.

    Raises:
        AppError: the port is in use, or the clone ended or stopped answering.
    """
    ports.require_free(port, f"--port {port}", host)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        clone = subprocess.Popen(
            [str(binary), "--port", str(port), "--host", host],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
    try:
        _wait(clone, host, port, log, _READY_S)
        ready(clone.pid)
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            time.sleep(_CHECK_S if end is None else min(_CHECK_S, max(0.0, end - time.monotonic())))
            _wait(clone, host, port, log, _CHECK_S)
    finally:
        _end(clone)


def _wait(clone: subprocess.Popen[bytes], host: str, port: int, log: Path, patience: float) -> None:
    """Until it accepts a connection."""
    began = time.monotonic()
    while True:
        if (code := clone.poll()) is not None:
            raise AppError(f"the clone ended with {code}{last_lines(log)}", "run it by hand: ditto run CLONE --port P")
        with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            return
        if time.monotonic() - began > patience:
            raise AppError(f"the clone does not answer on port {port}{last_lines(log)}", "is the port filtered?")
        time.sleep(0.02)


def _end(clone: subprocess.Popen[bytes]) -> None:
    """All of its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(clone.pid, number)
        with suppress(subprocess.TimeoutExpired):
            clone.wait(_STOP_S)
            if number == signal.SIGKILL:
                return
