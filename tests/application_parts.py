"""A hand-made application of three tiers: an event loop, threads that serve one connection each, and a store."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from call_parts import CONNECT_BLOCKING, REPLY, SERIAL, answer, build, call, calling, downstream
from ditto.artifacts.application import Application, Tier
from ditto.artifacts.profile import Listener, Op, OpKind, Profile
from profile_parts import service_profile
from runtime_build import STATIC

CALLS = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
"""Goes through all three tiers."""
ALONE = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
"""The entry answers it by itself."""
SIZE = 620


def profiles() -> dict[str, Profile]:
    """Of the tiers by name."""
    entry = calling([downstream(pool="request")], [call(), answer(), Op(kind=OpKind.CLOSE, nr=3, link=0), REPLY])
    service = entry.services[0]
    with_calls = service.classes[0].model_copy(update={"probability": 0.5})
    alone = with_calls.model_copy(
        update={"match": with_calls.match.model_copy(update={"verb": "PUT"}), "program": [REPLY]}
    )
    entry = _with(entry, classes=[with_calls, alone])
    to_store = downstream("resp2", blocking=True, connect=CONNECT_BLOCKING)
    blocking = Listener(nonblocking=False, accept_flags=0)
    middle = calling([to_store], [call(), answer(), REPLY], SERIAL.model_copy(update={"count": 4}), listener=blocking)
    store = service_profile()
    classes = [c.model_copy(update={"program": [Op(kind=OpKind.REPLY, nr=1)]}) for c in store.services[0].classes]
    roles = [role.model_copy(update={"on_wake_block": None, "timers": []}) for role in store.services[0].roles]
    return {
        "tier-1": entry,
        "tier-2": middle,
        "tier-3": _with(store, classes=classes, blocks=[], roles=roles, files=[]),
    }


def _with(profile: Profile, **changes: object) -> Profile:
    service = profile.services[0].model_copy(update=changes)
    return Profile.model_validate(profile.model_copy(update={"services": [service]}).model_dump())


def application(ports: tuple[int, int, int] = (7001, 7002, 7003)) -> Application:
    calls: list[list[str | None]] = [["tier-2"], ["tier-3"], []]
    tiers = [Tier(name=f"tier-{n + 1}", port=port, calls=calls[n]) for n, port in enumerate(ports)]
    return Application(tiers=tiers)


def build_application(folder: Path, mode: tuple[str, ...] = STATIC) -> Path:
    """The folder of the application, its tiers built."""
    for name, profile in profiles().items():
        build(profile, folder / name, mode)
    application().save(folder)
    return folder


def ask(port: int, request: bytes = CALLS, timeout: float = 10.0) -> int:
    """One request on a connection of its own: the status; 0 where the connection ends without a reply or is refused."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        sock.sendall(request)
        data = b""
        while len(data) < SIZE:
            piece = sock.recv(65536)
            if not piece:
                return 0
            data += piece
        return int(data.split(b" ", 2)[1])
    return 0


def until(port: int, status: int, timeout: float = 15.0, request: bytes = CALLS) -> None:
    """Until the entry answers so."""
    deadline = time.monotonic() + timeout
    while (got := ask(port, request)) != status:
        assert time.monotonic() < deadline, f"still {got}, not {status}"
        time.sleep(0.05)
