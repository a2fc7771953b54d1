"""Free TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket

from ditto.errors import AppError

# Below the kernel's range for outgoing connections (32768 and up), so that a client's own socket never takes one.
_FIRST, _LAST = 20000, 29999

_handed_out: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``port`` of every address now."""
    for address in {host, "0.0.0.0"}:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                # Two SO_REUSEADDR sockets may both bind; only one of them may listen.
                probe.listen(1)
            except OSError:
                return False
    return True


def find_free(host: str = "127.0.0.1") -> int:
    """A port from 20000 to 29999 that nobody listens on and that this process has not handed out before.

    Raises:
        AppError: none was found.
    """
    chooser = random.SystemRandom()
    for _ in range(2000):
        port = chooser.randint(_FIRST, _LAST)
        if port not in _handed_out and is_free(port, host):
            _handed_out.add(port)
            return port
    raise AppError(f"no free port between {_FIRST} and {_LAST} on {host}", "end what listens there (ss -ltnp shows it)")


def require_free(port: int, wanted_by: str, host: str = "127.0.0.1") -> int:
    """``port`` itself, if it is free.

    Raises:
        AppError: something listens there, or this user may not.
    """
    if not is_free(port, host):
        raise AppError(
            f"port {port}, wanted by {wanted_by}, is in use",
            f"end what listens there (ss -ltnp 'sport = :{port}' shows it) or choose another port",
        )
    return port
