"""Waiting until a server can be used."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from ditto.artifacts.app import Ready
from ditto.errors import AppError

_POLL_S = 0.02
_SETTINGS = b"\x04\0\0\0\0\0"
"""Kind, flags and stream of the frame that a server begins with which speaks HTTP/2 alone."""


def wait_ready(
    ready: Ready,
    host: str,
    port: int | None,
    log: Path,
    check_alive: Callable[[], None],
    timeout_s: float,
    name: str,
    said: bytes | None = None,
) -> None:
    """Return once the server is ready by its own rule.

    Args:
        port: None for a server without a port, which then is ready at once unless another rule is given.
        log: file with what the server prints.
        check_alive: raises AppError when the server has ended.
        said: what it prints where its port cannot be connected to, and which does as well.

    Raises:
        AppError: the server ended, or was not ready in time; with its last lines.
    """
    began = time.monotonic()
    log_before = log.stat().st_size if log.exists() else 0
    pattern = re.compile(ready.log.encode()) if ready.log is not None else None
    while True:
        check_alive()
        if ready.seconds is not None:
            if time.monotonic() - began >= ready.seconds:
                return
        elif pattern is not None:
            if log.exists() and pattern.search(log.read_bytes()):
                return
        elif ready.http is not None and port is not None:
            if _answers_http(host, port, ready.http):
                check_alive()
                return
        elif port is None:
            return
        elif _accepts(host, port) or (said is not None and log.exists() and said in log.read_bytes()):
            # Another program may have taken the port meanwhile, which makes the server end: look again.
            check_alive()
            return
        if ready.seconds is None and time.monotonic() - began > timeout_s:
            rule = _describe(ready, host, port)
            raise AppError(
                f"{name} was not ready after {timeout_s:g} s: {rule}{last_lines(log, start=log_before)}",
                "check the command, its port and 'ready' in app.toml",
            )
        time.sleep(_POLL_S)


def last_lines(log: Path, count: int = 5, start: int = 0) -> str:
    """The last lines of a log as the end of an error message, or an empty string."""
    try:
        data = log.read_bytes()[start:]
    except OSError:
        return ""
    lines = [line.strip() for line in data[-4000:].decode(errors="replace").splitlines() if line.strip()]
    return "; last lines: " + " | ".join(line[:300] for line in lines[-count:]) if lines else ""


def _describe(ready: Ready, host: str, port: int | None) -> str:
    if ready.log is not None:
        return f"nothing it printed matches {ready.log!r}"
    if ready.http is not None:
        return f"http://{host}:{port}{ready.http} does not answer with a status below 500"
    return f"{host}:{port} does not accept connections"


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _answers_http(host: str, port: int, path: str) -> bool:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(request.encode())
            answer = connection.recv(64)
    except OSError:
        return False
    match = re.match(rb"HTTP/\d\.\d (\d{3})", answer)
    return answer[3:9] == _SETTINGS or (match is not None and int(match.group(1)) < 500)
