"""Counting the system calls of running processes, without recording them: the collector in ``--count-only``.

with CallCounter(run.pids()) as counter:
    before = counter.snapshot()
    ...
    used = counter.snapshot() - before
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ditto import paths
from ditto.errors import MissingCapabilityError, RecordingError
from ditto.host import interrupts

_ANSWER_S = 30.0


@dataclass(frozen=True)
class Calls:
    """Calls of one thread to one system call: how many, the sum of their positive results, and how many got EAGAIN."""

    calls: int = 0
    bytes: int = 0
    again: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.calls + other.calls, self.bytes + other.bytes, self.again + other.again)

    def __sub__(self, other: Calls) -> Calls:
        return Calls(self.calls - other.calls, self.bytes - other.bytes, self.again - other.again)


@dataclass(frozen=True)
class CallCounts:
    """Counts by (process, thread, system call number); ``lost`` calls are not in them."""

    counts: dict[tuple[int, int, int], Calls]
    lost: int

    def __sub__(self, earlier: CallCounts) -> CallCounts:
        zero = Calls()
        rest = {key: value - earlier.counts.get(key, zero) for key, value in self.counts.items()}
        return CallCounts({key: value for key, value in rest.items() if value.calls}, self.lost - earlier.lost)

    def by_call(self) -> dict[int, Calls]:
        """Summed over threads, by system call number, ascending."""
        sums: dict[int, Calls] = {}
        for (_, _, number), value in self.counts.items():
            sums[number] = sums.get(number, Calls()) + value
        return dict(sorted(sums.items()))


class CallCounter:
    """Counts the calls of processes and of all that they start, from `__enter__` to `__exit__`.

    Raises:
        MissingCapabilityError: the collector is not built, or may not load its programs here.
        RecordingError: it ended or does not answer.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> CallCounter:
        program = paths.collector_binary()
        if not program.is_file():
            raise MissingCapabilityError("the eBPF collector is not built", "make -C native/collector (or: make setup)")
        command = [str(program), "--count-only", "--buffer-mb", "0.25"]
        command += [word for pid in self._pids for word in ("--pid", str(pid))]
        with interrupts.held():
            # It ends by itself when its standard input closes, even if this process is killed.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        try:
            self._line()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the collector; may be called more than once."""
        process, self._process = self._process, None
        if process is None:
            return
        with interrupts.held():
            if process.stdin is not None:
                try:
                    process.stdin.close()
                except OSError:
                    pass
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def snapshot(self) -> CallCounts:
        """Everything counted since the beginning."""
        process = self._process
        if process is None or process.stdin is None:
            raise RecordingError("the collector is not running", "start counting first")
        try:
            process.stdin.write(b"status\n")
            process.stdin.flush()
        except OSError:
            raise self._ended() from None
        answer = self._line()
        counts = {(int(p), int(t), int(n)): Calls(int(c), int(b), int(a)) for p, t, n, c, b, a in answer["counts"]}
        # Births that found the small ring full are of no concern here.
        return CallCounts(counts, int(answer["lost_map"]) + int(answer["lost_missed"]))

    def _line(self) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        deadline = time.monotonic() + _ANSWER_S
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise RecordingError(f"the collector did not answer within {_ANSWER_S:g} s", "run it again")
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._ended()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("ok") is False:
            raise RecordingError(f"the collector refused: {answer.get('error')}", "run it again")
        return answer

    def _ended(self) -> MissingCapabilityError | RecordingError:
        process = self._process
        assert process is not None and process.stderr is not None
        code = process.wait()
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {code}"
        if code == MissingCapabilityError.exit_code:
            return MissingCapabilityError(
                f"system calls cannot be counted: {why}", "ditto doctor tells what is missing"
            )
        return RecordingError(f"the collector ended: {why}", "run it again")
