"""One started server: held, alive or ended, and everything that came of it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from ditto.errors import AppError
from ditto.host import process
from ditto.host.process import ProcessId
from ditto.host.ready import last_lines

_QUIET_S = 0.1
_SETTLE_S = 2.0


class Server:
    """One started server process and all that came of it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], marker: str, log: Path, held: bool) -> None:
        self.name = name
        self.log = log
        self.pid = popen.pid
        self.marker = marker
        self._popen = popen
        self._held = held
        root = process.identify(popen.pid)
        self._known: set[ProcessId] = {root} if root else set()

    def release(self) -> None:
        """Let a held process execute its command.

        Raises:
            AppError: it ended while it was held.
        """
        if self._held and self._popen.stdin is not None:
            self._held = False
            try:
                with self._popen.stdin as pipe:
                    pipe.write(b"go\n")
            except BrokenPipeError:
                raise AppError(f"{self.name} ended before it was released", "start it again") from None

    def processes(self) -> set[ProcessId]:
        """Its live processes now: the one started, its descendants and its daemons."""
        self._popen.poll()
        live = process.find_tree(self._known, self.marker)
        self._known |= live
        return live

    def settle(self) -> None:
        """Return once it has started all its threads: some servers listen before.

        That is when a tenth of a second brought no process and no thread, or after two seconds.
        """
        deadline = time.monotonic() + _SETTLE_S
        before = -1
        while (now := sum(_threads(found.pid) for found in self.processes())) != before:
            if time.monotonic() > deadline:
                return
            before = now
            time.sleep(_QUIET_S)

    def check_alive(self) -> None:
        """Raise AppError, with its last lines, when nothing of it runs any more."""
        code = self._popen.poll()
        if code is None or (code == 0 and self._left_a_daemon()):
            return
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
        raise AppError(f"{self.name} ended {how}{last_lines(self.log)}", "run its command by hand to see why it ends")

    def _left_a_daemon(self) -> bool:
        # A look at /proc can miss a server in the middle of forking itself into the background: look again.
        for _ in range(5):
            if self.processes():
                return True
            time.sleep(0.02)
        return False

    def stop(self, patience_s: float) -> int | None:
        """End it all; the exit code of the process that was started, if it is known."""
        if self._held and self._popen.stdin is not None:
            self._popen.stdin.close()  # the held process leaves by itself
        process.end_processes(self._known, self.marker, patience_s, reap=self._popen.poll)
        code = self._popen.poll()
        if code is not None:
            process.forget(self.pid)
        return code


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # it has ended
        return 0
