"""Running a client against a server: to its end, for a time, or in the background."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto.errors import AppError
from ditto.host import interrupts, process
from ditto.host.ready import last_lines

_POLL_S = 0.05


@dataclass(frozen=True)
class LoadResult:
    """One run of a client.

    Attributes:
        exit_code: of the client; negative is the signal that ended it.
        seconds: from its start to its end.
        stdout: what it printed.
        ended_by_us: it was still running when its time was over.
        began_ns: when it was started, CLOCK_MONOTONIC.
        makes: requests that app.toml says a run of it makes, where it cannot be told how many.
    """

    command: tuple[str, ...]
    exit_code: int
    seconds: float
    stdout: str
    stderr: str
    began_ns: int
    ended_by_us: bool = False
    makes: int | None = None


class Client:
    """One started client; `wait` or `stop` it."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], marker: str, logs: Path, name: str
    ) -> None:
        self.command = tuple(command)
        self.name = name
        self.makes: int | None = None
        self._marker = marker
        self._out = logs / f"{marker.rpartition('.')[2]}.out"
        self._err = self._out.with_suffix(".err")
        process.skip_numbers()
        self.began_ns = time.monotonic_ns()
        env = {**environment, process.MARKER: marker}
        with interrupts.held():
            self._popen = process.spawn(command, folder=folder, environment=env, output=self._out, errors=self._err)
            self._root = process.identify(self._popen.pid)
            self._handle = os.pidfd_open(self._popen.pid)
        self._result: LoadResult | None = None
        self._stopped = False

    @property
    def pid(self) -> int:
        """Process number of the client."""
        return self._popen.pid

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._result is None and self._popen.poll() is None

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the client's end."""
        if self.is_running():
            select.select([self._handle], [], [], max(seconds, 0.0))

    def wait(self, timeout_s: float | None = None, check: Callable[[], None] = lambda: None) -> LoadResult:
        """Wait for its end.

        Args:
            check: called about twenty times a second; what it raises ends the client.

        Raises:
            AppError: it failed, or was not done after ``timeout_s``.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while self.is_running():
                if deadline is not None and time.monotonic() > deadline:
                    raise AppError(
                        f"{self.name} did not end within {timeout_s:g} s: {' '.join(self.command)}",
                        "let it make fewer requests, or check that the server answers it",
                    )
                check()
                self.pause(_POLL_S)
        except BaseException:
            self.stop()
            raise
        result = self._finish()
        if result.exit_code != 0 and not result.ended_by_us:
            check()
            how = f"exit code {result.exit_code}" if result.exit_code > 0 else f"signal {-result.exit_code}"
            log = self._err if result.stderr.strip() else self._out
            raise AppError(
                f"{self.name} failed with {how}: {' '.join(self.command)}{last_lines(log)}",
                "run that command by hand against the running server to see why",
            )
        return result

    def stop(self) -> LoadResult:
        """End it now, if it still runs, with everything it started."""
        with interrupts.held():
            if self._result is None:
                self._stopped = self._popen.poll() is None
                known = [self._root] if self._root else []
                process.end_processes(known, self._marker, 1.0, reap=self._popen.poll)
            return self._finish()

    def _finish(self) -> LoadResult:
        if self._result is None:
            code = self._popen.wait()
            seconds = (time.monotonic_ns() - self.began_ns) / 1e9
            os.close(self._handle)
            process.forget(self._popen.pid)
            self._result = LoadResult(
                command=self.command,
                exit_code=code,
                seconds=seconds,
                stdout=_text(self._out),
                stderr=_text(self._err),
                began_ns=self.began_ns,
                ended_by_us=self._stopped,
                makes=self.makes,
            )
            self._out.unlink(missing_ok=True)
        return self._result


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - 1_000_000))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
