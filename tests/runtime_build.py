"""Builds the runtime with hand-written tables for the tests, and runs the result."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.prints import path_print

RUNTIME = Path(__file__).parent.parent / "native" / "runtime"
DRIVERS = Path(__file__).parent / "runtime"
PRINT_KEY = 0x1234ABCD
SANITIZE = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DDITTO_POOL_MALLOC")
STATIC = ("-O2", "-static")
DEFINES = (
    f"-DTEST_PRINT_CHUNKED={path_print(PRINT_KEY, b'/chunked')}",
    f"-DTEST_PRINT_304={path_print(PRINT_KEY, b'/unchanged')}",
    f"-DTEST_PRINT_WIDE={path_print(PRINT_KEY, b'SELECT a, b, c FROM t WHERE id')}",
    f"-DTEST_PRINT_METHOD={path_print(PRINT_KEY, b'/test.Service/Get')}",
    f"-DTEST_PRINT_STREAM={path_print(PRINT_KEY, b'/test.Service/List')}",
    f"-DTEST_PRINT_COPY={path_print(PRINT_KEY, b'COPY t FROM STDIN')}",
    f"-DTEST_PRINT_OUT={path_print(PRINT_KEY, b'COPY t TO STDOUT')}",
    f"-DTEST_PRINT_NARROW={path_print(PRINT_KEY, b'SELECT abalance FROM t')}",
)
CODEC_SOURCES = (
    "codec*.c",
    "http_*.c",
    "memcached_*.c",
    "resp_*.c",
    "pgsql_*.c",
    "mysql_*.c",
    "h2_*.c",
    "sql.c",
    "keys.c",
    "members.c",
    "values.c",
    "outbuf.c",
    "pool.c",
    "rng.c",
    "dist.c",
)


_objects = tempfile.TemporaryDirectory(prefix="ditto-runtime-objects-")


def compile_c(output: Path, sources: list[Path], flags: tuple[str, ...]) -> Path:
    """Compile the sources; those of the runtime, which no macro of a test reaches, once for each mode."""
    mode = tuple(flag for flag in flags if not flag.startswith("-DTEST_"))
    shared = [_object(path, mode) for path in sources if path.parent == RUNTIME]
    own = [path for path in sources if path.parent != RUNTIME]
    _cc((*DEFINES, *flags, "-o", str(output), *map(str, own), *map(str, shared)))
    return output


@functools.cache
def _object(source: Path, mode: tuple[str, ...]) -> Path:
    folder = Path(_objects.name) / hashlib.sha256(" ".join(mode).encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    output = folder / f"{source.stem}.o"
    _cc((*(flag for flag in mode if flag != "-static"), "-c", "-o", str(output), str(source)))
    return output


def _cc(arguments: tuple[str, ...]) -> None:
    command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{RUNTIME}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def runtime_sources() -> list[Path]:
    return sorted(path for path in RUNTIME.glob("*.c") if path.name != "body.c")


def build_clone(output: Path, tables: str, *flags: str, mode: tuple[str, ...] = SANITIZE) -> Path:
    """A clone of the tables in ``tests/runtime/tables_<tables>.c``, without compute blocks."""
    sources = [*runtime_sources(), DRIVERS / "body_standin.c", DRIVERS / f"tables_{tables}.c"]
    return compile_c(output, sources, (*mode, *flags))


def build_fuzzer(output: Path, tables: str) -> Path:
    sources = sorted({path for pattern in CODEC_SOURCES for path in RUNTIME.glob(pattern)})
    sources += [DRIVERS / "fuzz_codec.c", DRIVERS / f"tables_{tables}.c"]
    return compile_c(output, sources, (*SANITIZE, "-DTEST_FUZZ"))


@dataclass
class Clone:
    """A running clone."""

    process: subprocess.Popen[str]
    port: int

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


@contextlib.contextmanager
def running(
    binary: Path, *options: str, prefix: tuple[str, ...] = (), check: bool = True, env: dict[str, str] | None = None
) -> Iterator[Clone]:
    """Run a clone on a free port; at the end it must still be alive, say nothing and end with 0."""
    process = subprocess.Popen(
        [*prefix, str(binary), "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "port" in line, process.stderr.read() if process.stderr else ""
        yield Clone(process, int(line.split()[-1]))
        if check:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
    finally:
        if process.poll() is None:
            below = ["pkill", "-TERM", "-P", str(process.pid)]
            if not prefix or subprocess.run(below, check=False).returncode:  # a tool ends with the clone below it
                process.terminate()
        try:
            _, errors = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    if check:
        assert process.returncode == 0, errors
        assert "runtime error" not in errors and "Sanitizer" not in errors, errors


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes, or what came before the end."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the peer's end; a reset counts as one."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


def exchange(clone: Clone, pieces: list[bytes], pause: float = 0.0) -> bytes:
    """Send the pieces, close the sending side, return all replies."""
    with clone.connect() as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.sendall(piece)
                if pause:
                    time.sleep(pause)
            sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)
