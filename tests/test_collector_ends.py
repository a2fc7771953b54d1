"""Both collectors on connections: which ends they have, and more of what they carry."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from ditto.artifacts.records import Kind, Mode, Recording, load_recording
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import BadInputError, MissingCapabilityError
from ditto.observe.native_run import NativeRecorder
from ditto.topology.recorded.connections import ends_of
from ditto.topology.recorded.feed import calls_in_order

COLLECTORS = [pytest.param("ebpf", marks=pytest.mark.ebpf), pytest.param("ptrace")]
Which = Literal["ebpf", "ptrace"]
TEXT = bytes(range(256)) + b"end"

# The server gives no place for the client's address; one client does not wait for its connection.
PROGRAM = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None)
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
host = "::1" if sys.argv[1] == "6" else "127.0.0.1"
listener = socket.socket(family); listener.bind((host, 0)); listener.listen(8)
port = listener.getsockname()[1]
print(port, flush=True); sys.stdin.readline()
for blocking in (True, False):
    client = socket.socket(family)
    client.setblocking(blocking)
    client.connect_ex((host, port))
    server = socket.socket(fileno=libc.accept(listener.fileno(), None, None))
    client.setblocking(True)
    text = bytes(range(256)) + b"end"
    os.write(client.fileno(), text)
    client.sendmsg([text, b"more"])
    client.sendmsg([b"h" * 23, b"i" * 50, b"", text])
    client.send(b"short")
    got = b""
    while len(got) < 3 * len(text) + 82: got += server.recv(len(text))
    print(client.getsockname()[1], flush=True)
    client.close(); server.close()
left, right = socket.socketpair(); left.send(b"x" * 100); right.recv(100)
"""


def record(folder: Path, collector: Which, version: str, more: int) -> tuple[Recording, int, list[int]]:
    """The recording, the server's port, the clients' ports."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with NativeRecorder() as recorder:
            try:
                recorder.start([process.pid], folder / "rec", collector, 8, Mode.ALL, more)
            except MissingCapabilityError as error:
                pytest.skip(str(error))
            process.stdin.write("go\n")
            process.stdin.flush()
            clients = [int(process.stdout.readline()) for _ in range(2)]
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    return load_recording(folder / "rec"), port, clients


@pytest.mark.parametrize("version", ["4", "6"])
@pytest.mark.parametrize("collector", COLLECTORS)
def test_both_ends_of_a_connection_are_told(tmp_path: Path, collector: Which, version: str) -> None:
    if version == "6" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    recording, port, clients = record(tmp_path, collector, version, 0)
    events = [event for _, event in calls_in_order(recording)]
    loopback = struct.unpack("<I", socket.inet_aton("0.0.0.1" if version == "6" else "127.0.0.1"))[0]
    connected = [ends_of(event) for event in events if event.nr == NUMBERS["connect"]]
    assert connected == [(loopback, client, loopback, port) for client in clients]
    accepted = [ends_of(event) for event in events if event.nr == NUMBERS["accept"]]
    assert accepted == [(loopback, port, loopback, client) for client in clients]
    assert not (recording.records["kind"] == Kind.MORE).any()


@pytest.mark.parametrize("collector", COLLECTORS)
def test_more_of_what_a_call_moved_is_recorded_if_asked(tmp_path: Path, collector: Which) -> None:
    recording, _, _ = record(tmp_path, collector, "4", 3)
    events = [event for _, event in calls_in_order(recording)]
    pieces = b"h" * 23 + b"i" * 50 + TEXT[:183]  # the first vector alone is too short to tell anything
    moved = {"write": [TEXT[:256]], "sendmsg": [TEXT[:256], pieces], "sendto": [b"short"]}
    for name, texts in moved.items():
        found = [event.payload for event in events if event.nr == NUMBERS[name] and event.obj is not None
                 and event.obj.kind == "downstream"]  # fmt: skip
        assert found == texts * 2, name
    received = [event.payload for event in events if event.nr == NUMBERS["recvfrom"] and event.ret == len(TEXT)]
    assert received and all(len(payload) == 256 for payload in received)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--more wants 0 to 3"):
        NativeRecorder().start([1], tmp_path / "rec", "ptrace", 8, Mode.ALL, 4)
