"""Record the system calls of running processes with the native collectors.

A collector is a program of its own: it prints one JSON line when it follows the processes, answers each line it reads
on standard input with one JSON line, and ends by itself, letting the observed processes run on, when its standard
input closes.  So whatever ends this process, nothing is left behind.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from ditto.artifacts.records import Mode
from ditto.errors import BadInputError, DittoError, MissingCapabilityError, RecordingError
from ditto.paths import collector_binary, ptrace_binary

Collector = Literal["ebpf", "ptrace"]

READY_SECONDS = 30.0
ANSWER_SECONDS = 60.0
_EXIT_INPUT = 2
_EXIT_CAPABILITY = 3


@dataclass(frozen=True)
class RecorderStatus:
    """What a collector has done so far.

    Attributes:
        mode: what it records now.
        records: records written, of every kind.
        bytes: size of the recording, in bytes.
        lost: records lost for any reason.
        lost_ring: of these, because the ring buffer was full (a larger ``buffer_mb`` helps).
        lost_map: because a table of the collector was full.
        lost_missed: because the kernel skipped a program of the collector.
        followed: threads that were followed at some time.
    """

    mode: Mode
    records: int
    bytes: int
    lost: int
    lost_ring: int
    lost_map: int
    lost_missed: int
    followed: int

    @property
    def lost_share(self) -> float:
        """Lost records as a share of all, 0 to 1."""
        total = self.records + self.lost
        return self.lost / total if total else 0.0


@dataclass(frozen=True)
class CallCount:
    """Calls of one kind by one thread.

    Attributes:
        nr: x86-64 system call number.
        count: calls that returned (or, for exit and exit_group, began).
        bytes: sum of the positive results.
        again: results of ``-EAGAIN``.
    """

    pid: int
    tid: int
    nr: int
    count: int
    bytes: int
    again: int


class _Process:
    """One collector process and its conversation."""

    def __init__(self, binary: Path, arguments: Sequence[str]) -> None:
        self.name = binary.name
        # A file, not a pipe: nobody reads while it runs, and a full pipe would stop it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._unread = b""
        try:
            # A session of its own: Ctrl-C in the terminal reaches it only through us, after its answer is asked for.
            self._process = subprocess.Popen(
                [str(binary), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise MissingCapabilityError(
                f"{binary}: {error.strerror}", "build it with 'make -C native/collector'"
            ) from error

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next line it prints.  Raises what its end or silence means."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise RecordingError(f"{self.name} has not answered for {seconds:.0f} s", "record again")
                piece = os.read(descriptor, 1 << 16)
                if not piece:
                    raise self._ended()
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            reply = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordingError(f"{self.name} answered nonsense: {line[:80]!r}", "build it again") from error
        if not isinstance(reply, dict):
            raise RecordingError(f"{self.name} answered nonsense: {line[:80]!r}", "build it again")
        if reply.get("ok") is False:
            raise RecordingError(f"{self.name}: {reply.get('error', 'unknown error')}", "see the message")
        return reply

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It has ended; if it said why before, that is the answer.
            pass
        return self.answer(ANSWER_SECONDS)

    def _ended(self) -> DittoError:
        code = self.close()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        message = said[-1] if said else f"{self.name} ended with exit code {code}"
        if code == _EXIT_INPUT:
            return BadInputError(message, "name running processes and a file that can be written")
        if code == _EXIT_CAPABILITY:
            return MissingCapabilityError(message, "'ditto doctor' tells what this machine allows")
        return RecordingError(message, "free some space or record again")

    def close(self) -> int:
        """End it, gently first, and reap it; its exit code.  May be called again."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        for step in (None, signal.SIGTERM, signal.SIGKILL):
            if step is not None:
                process.send_signal(step)
            try:
                return process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                continue
        return process.wait()

    def release(self) -> None:
        self.close()
        self._errors.close()


def _status(reply: dict[str, Any]) -> RecorderStatus:
    return RecorderStatus(
        mode=Mode[str(reply["mode"]).upper()],
        records=int(reply["records"]),
        bytes=int(reply["bytes"]),
        lost=int(reply["lost"]),
        lost_ring=int(reply["lost_ring"]),
        lost_map=int(reply["lost_map"]),
        lost_missed=int(reply["lost_missed"]),
        followed=int(reply["followed"]),
    )


def _launch(collector: Collector, pids: Sequence[int], extra: Sequence[str]) -> _Process:
    if not pids:
        raise BadInputError("no process to record", "name at least one running process")
    binary = collector_binary() if collector == "ebpf" else ptrace_binary()
    if not binary.exists():
        raise MissingCapabilityError(f"{binary} is not built", "build it with 'make -C native/collector'")
    arguments = [word for pid in pids for word in ("--pid", str(pid))]
    process = _Process(binary, [*arguments, *extra])
    try:
        process.answer(READY_SECONDS)
    except BaseException:
        process.release()
        raise
    return process


def _launch_any(
    collector: Literal["auto", "ebpf", "ptrace"], pids: Sequence[int], extra: Sequence[str]
) -> tuple[_Process, Collector, str]:
    """The running collector, which it is, and why it is not the better one (else empty)."""
    if collector != "auto":
        return _launch(collector, pids, extra), collector, ""
    try:
        return _launch("ebpf", pids, extra), "ebpf", ""
    except MissingCapabilityError as first:
        try:
            return _launch("ptrace", pids, extra), "ptrace", str(first)
        except MissingCapabilityError as second:
            raise MissingCapabilityError(
                f"neither collector works here: {first.message}; {second.message}", first.remedy
            ) from second


class NativeRecorder:
    """Records system calls into a file; a context manager that always ends its collector.

    Attributes:
        collector: which collector records, once started.
        reason: why ``"auto"`` did not take eBPF; empty if it did.
    """

    def __init__(self) -> None:
        self.collector: Collector | None = None
        self.reason = ""
        self._process: _Process | None = None
        self._final: RecorderStatus | None = None

    def start(
        self,
        pids: Sequence[int],
        out_path: Path,
        collector: Literal["auto", "ebpf", "ptrace"] = "auto",
        buffer_mb: float = 64.0,
        mode: Mode = Mode.ALL,
        more: int = 0,
    ) -> None:
        """Follow the processes, their threads and everything below them; returns once all are followed.

        Args:
            pids: running processes.
            out_path: the recording to write; see :mod:`ditto.artifacts.records`.
            collector: ``"auto"`` tries eBPF, then ptrace.
            buffer_mb: size of the ring buffer in MiB (eBPF), rounded up to a power of two.
            mode: what to record at first.
            more: up to 3 further records of 64 bytes of what a call moved.

        Raises:
            BadInputError: no such process, or the file cannot be written.
            MissingCapabilityError: this machine refuses the collector.
            RecordingError: it failed while starting, or this recorder runs already.
        """
        if self._process is not None:
            raise RecordingError("this recorder runs already", "stop it first")
        extra = ["-o", str(out_path), "--buffer-mb", str(buffer_mb), "--mode", mode.name.lower(), "--more", str(more)]
        self._final = None
        self._process, self.collector, self.reason = _launch_any(collector, pids, extra)

    def set_mode(self, mode: Mode) -> RecorderStatus:
        """Record more or less from now on; the change itself is in the recording."""
        return self._ask(f"mode {mode.name.lower()}")

    def add(self, pid: int) -> RecorderStatus:
        """Follow another running process and everything below it."""
        return self._ask(f"add {pid}")

    def status(self) -> RecorderStatus:
        """What has been recorded and lost until now."""
        return self._ask("status")

    def stop(self) -> RecorderStatus:
        """Drain, write, let go of the processes and end the collector.  The final counts; may be called again.

        Raises:
            RecordingError: the recording is not complete (a full disk, a collector that was killed).
        """
        if self._final is not None:
            return self._final
        try:
            self._final = self._ask("quit")
        finally:
            self._release()
        return self._final

    def _ask(self, line: str) -> RecorderStatus:
        if self._process is None:
            raise RecordingError("no recording runs", "start one first")
        return _status(self._process.ask(line))

    def _release(self) -> None:
        if self._process is not None:
            self._process.release()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if kind is None:
            self.stop()
        else:
            self._release()


class CallCounter:
    """Counts system calls in the kernel without recording them (eBPF only); a context manager."""

    def __init__(self) -> None:
        self._process: _Process | None = None
        self.lost = 0

    def start(self, pids: Sequence[int]) -> None:
        """Count the calls of the processes, their threads and everything below them from now on.

        Raises:
            BadInputError: no such process.
            MissingCapabilityError: this machine refuses eBPF.
            RecordingError: it failed while starting, or runs already.
        """
        if self._process is not None:
            raise RecordingError("this counter runs already", "stop it first")
        self._process = _launch("ebpf", pids, ["--count-only", "--buffer-mb", "0.25"])

    def read(self) -> list[CallCount]:
        """Counts since the start, sorted by process, thread and call; :attr:`lost` tells what is not in them."""
        if self._process is None:
            raise RecordingError("no counter runs", "start it first")
        reply = self._process.ask("status")
        # Births that found the small ring full are of no concern here.
        self.lost = int(reply["lost_map"]) + int(reply["lost_missed"])
        return sorted((CallCount(*map(int, row)) for row in reply["counts"]), key=lambda c: (c.pid, c.tid, c.nr))

    def stop(self) -> None:
        """End the collector; may be called again."""
        if self._process is not None:
            self._process.release()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
