"""A neighbour that keeps one core busy in a known way: stress-ng, beside a running app."""

from __future__ import annotations

from enum import StrEnum

from ditto.errors import AppError
from ditto.host import commands
from ditto.host.app import AppRun
from ditto.host.cgroup import ControlGroup
from ditto.host.load import Client

_SETTLE_S = 0.4
_AT_MOST_S = 600


class Stressor(StrEnum):
    """What it wears out: arithmetic units, caches, or the bandwidth of memory."""

    CPU = "cpu"
    CACHE = "cache"
    MEMORY = "memory"

    @property
    def words(self) -> tuple[str, ...]:
        """The options of stress-ng; its cache stressor would leave the core it was put on."""
        return {
            Stressor.CPU: ("--matrix", "1"),
            Stressor.CACHE: ("--cache", "1", "--cache-no-affinity"),
            Stressor.MEMORY: ("--stream", "1"),
        }[self]


def require_stressor() -> None:
    """Find the programs.

    Raises:
        MissingCapabilityError: one is missing; names the command that installs it.
    """
    for name in ("stress-ng", "taskset"):
        commands.require_program([name], wanted_by="the interference study")


def on_cpu(cpu: int) -> list[str]:
    """Words before a command that keep it, and all it starts, on one CPU."""
    return ["taskset", "-c", str(cpu)]


class Neighbour:
    """A started stressor; it ends with the run, and by itself where ditto was killed."""

    def __init__(self, run: AppRun, stressor: Stressor, cpu: int, group: ControlGroup | None = None) -> None:
        """Start it and wait until it works.

        Args:
            group: to put it into.
        """
        words = [*on_cpu(cpu), "stress-ng", *stressor.words, "--quiet", "--timeout", str(_AT_MOST_S)]
        words += ["--temp-path", str(run.run_folder)]
        self._client: Client = run.start_load(command=group.wrap(words, {})[0] if group is not None else words)
        self._client.pause(_SETTLE_S)
        self.check()

    def check(self) -> None:
        """Raise AppError if it has ended."""
        if not self._client.is_running():
            result = self._client.stop()
            said = " ".join((result.stderr or result.stdout).split())[-200:] or f"exit code {result.exit_code}"
            raise AppError(f"stress-ng ended early: {said}", f"run it by hand: {' '.join(self._client.command)}")

    def stop(self) -> None:
        """End it."""
        self._client.stop()
