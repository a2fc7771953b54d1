"""A clone, or the tiers of an application, here: ready before it is announced, started again, ended as a whole."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.application import Application, is_application, load_application
from ditto.errors import AppError
from ditto.host import interrupts, leftovers, ports, process
from ditto.host.clones import (
    built_clone,
    called_at,
    clone_command,
    takes_datagrams,
    tier_command,
    tier_host,
    tier_ports,
)
from ditto.host.ready import last_lines
from ditto.host.running import Running, RunOptions
from ditto.host.server import Server

READY_S = 30.0
STOP_S = 5.0
LOOK_S = 0.1
CHECK_S = 5.0
"""Between two looks whether a member still accepts connections; after `CHECKS` in vain it is started again."""
CHECKS = 3
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
STEADY_S = 10.0
"""A member that ran for so long is started again as if for the first time."""


@dataclass(frozen=True)
class Member:
    """One clone to run: its whole command, where it listens, and the file for what it prints."""

    name: str
    command: tuple[str, ...]
    host: str
    port: int
    log: Path


def run_folder(
    folder: Path, options: RunOptions, logs: Path, ready: Callable[[list[Running]], None], say: Callable[[str], None]
) -> None:
    """Run a built clone, or all tiers of an application, as `supervise` does.

    Raises:
        BadInputError: one is not built.
        AppError: a port is in use; and as `supervise`.
    """
    host, port, data = options.host, options.port, options.data
    if is_application(folder):
        application = load_application(folder)
        chosen = tier_ports(application, port, options.base_port, host)
        members = tier_members(folder, application, host, chosen, logs, data)
    else:
        ports.require_free(port, f"--port {port}", host)
        words = [word.format(port=port) for word in clone_command(built_clone(folder))]
        command = (*words, "--host", host, *([] if data is None else ["--data", str(data.absolute())]))
        members = [Member("clone", command, host, port, logs / "clone.log")]
    supervise(members, ready, say, options.seconds, options.restart)


def tier_members(
    folder: Path, application: Application, host: str, chosen: Mapping[str, int], logs: Path, data: Path | None
) -> list[Member]:
    """The tiers of an application in the order in which they start; ``data`` gets a folder for each one's files.

    Raises:
        BadInputError: one is not built.
    """
    members = []
    for tier in application.start_order():
        command = tier_command(folder, application, tier, host, dict(chosen))
        if data is not None:
            own = data.absolute() / tier.name
            own.mkdir(parents=True, exist_ok=True)
            command += ["--data", str(own)]
        listens = tier_host(application, tier, host)
        members.append(Member(tier.name, tuple(command), listens, chosen[tier.name], logs / f"{tier.name}.log"))
    return members


def supervise(
    members: Sequence[Member],
    ready: Callable[[list[Running]], None],
    say: Callable[[str], None],
    seconds: float | None = None,
    restart: bool = True,
) -> None:
    """Run members until this is interrupted, for ``seconds`` at most.

    They start one after the other, each when the one before answers.  One that ends, or accepts no connection any
    more, is started again, the longer after the more often that happens, and ``say`` is told in one line.

    Args:
        ready: called once, when all answer.
        restart: without it such an end is the end of all.

    Raises:
        AppError: one did not come up, or ended and is not to be started again.
    """
    process.become_subreaper()
    leftovers.remove_stale_folders()
    with interrupts.held():
        scratch = leftovers.make_run_folder()
    watched = [_Watched(member, scratch) for member in members]
    try:
        for one in watched:
            one.start()
            one.wait_ready()
        ready([one.running() for one in watched])
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            time.sleep(LOOK_S if end is None else min(LOOK_S, max(0.0, end - time.monotonic())))
            for one in watched:
                one.look(say, restart)
    finally:
        with interrupts.held():
            for one in reversed(watched):
                one.stop()
            shutil.rmtree(scratch, ignore_errors=True)


class _Watched:
    """One member through all its starts."""

    def __init__(self, member: Member, scratch: Path) -> None:
        self._member = member
        self._scratch = scratch
        self._datagrams = takes_datagrams(Path(member.command[0]))
        self._server: Server | None = None
        self._in_a_row = 0
        self._began = self._next_check = 0.0
        self._unanswered = 0

    def start(self) -> None:
        member = self._member
        member.log.parent.mkdir(parents=True, exist_ok=True)
        own = self._scratch / member.name
        own.mkdir(exist_ok=True)
        marker = f"{self._scratch.name}-{member.name}"
        # What it makes for itself goes with the run, even if it is killed.
        environment = {**os.environ, process.MARKER: marker, "TMPDIR": str(own)}
        with interrupts.held():
            popen = process.spawn(
                member.command, folder=self._scratch, environment=environment, output=member.log, with_parent=True
            )
            self._server = Server(member.name, popen, marker, member.log, held=False)
        self._began = time.monotonic()
        self._next_check = self._began + CHECK_S
        self._unanswered = 0

    def wait_ready(self) -> None:
        while not self._answers():
            self._check_alive()
            if time.monotonic() - self._began > READY_S:
                raise AppError(
                    f"{self._member.name} does not answer on port {self._member.port}{last_lines(self._member.log)}",
                    "is the port filtered?",
                )
            time.sleep(0.02)
        self._check_alive()  # another program may have taken the port meanwhile, which makes it end

    def running(self) -> Running:
        assert self._server is not None
        return Running(self._member.name, self._server.pid, self._member.port, self._member.log)

    def look(self, say: Callable[[str], None], restart: bool) -> None:
        """Find out whether it runs and answers, and start it again when it is time."""
        now = time.monotonic()
        if self._server is None and now < self._began:
            return
        try:
            if self._server is None:
                self.start()
            self._check_alive()
            self._check_answers(now)
        except AppError as error:
            if not restart:
                raise
            self.stop()
            self._in_a_row = 1 if now - self._began >= STEADY_S else self._in_a_row + 1
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._in_a_row - 1, 16))
            self._began = now + delay
            say(f"{error.message}; it is started again in {delay:g} s")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(STOP_S)
            self._server = None

    def _check_alive(self) -> None:
        assert self._server is not None
        self._server.check_alive()

    def _check_answers(self, now: float) -> None:
        if now < self._next_check:
            return
        self._next_check = now + CHECK_S
        self._unanswered = 0 if self._answers() else self._unanswered + 1
        if self._unanswered >= CHECKS:
            raise AppError(
                f"{self._member.name} accepts no connections on port {self._member.port}{last_lines(self._member.log)}",
                "look into its log",
            )

    def _answers(self) -> bool:
        host, port = called_at(self._member.host), self._member.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if self._datagrams:  # nobody can connect to it, but its port is taken
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((self._member.host, port))
                except OSError:
                    return True
            return False
        with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            return True
        return False
