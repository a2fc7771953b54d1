"""An app while it runs: started, ready, filled, under load, measured from outside, and ended whatever happens.

    with AppRun(load_app(path)) as run:
        run.prepare()
        before = run.cpu_times()
        result = run.load(10_000)
        used = run.cpu_times() - before

Everything it starts is in a session of its own and carries a marker in its environment, so that `AppRun.stop`
finds it again even after a server made itself a daemon.  Nothing ends when this process is killed: an app under
observation outlives its observer.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from ditto.artifacts.app import AppSpec, Beside, Ready, Service, Which
from ditto.errors import AppError
from ditto.host import commands, interrupts, leftovers, live, placeholders, ports, process
from ditto.host.clones import CLONE_TAKES_DATAGRAMS, called_services, ready_of_clone
from ditto.host.limits import DiskUse, LimitedGroup, limited_group
from ditto.host.load import Client, LoadResult
from ditto.host.process import CpuTimes, Memory, ProcessId
from ditto.host.ready import wait_ready
from ditto.host.server import Server

Wrap = Callable[[list[str], dict[str, str]], tuple[list[str], dict[str, str]]]

_STEP_TIMEOUT_S = 600.0
_READY_S = {"native": 30.0, "lens": 180.0}


class AppRun:
    """One run of an app, or of a clone in its place, with the app's own client.

    Args:
        spec: the app.
        port: the entry service's port; a free one is found without it (its usual one where the commands do not
            take ``{port}``).
        wrap: changes the command and environment of the services, for instance to run them under an instrument.
        which: the ``native`` or the ``lens`` commands and request counts.
        hold: `start` leaves the entry service waiting before its exec; go on with `release` and `wait_ready`.
        on_start: called with each service while it waits before its exec, so that a recorder can follow it.
        only: the service that ``wrap``, ``which``, `pids` and what is measured are about; all without it.
        relay: called with each service but the entry, once ready, and its port; its callers are told what this returns.
        ready_timeout_s: how long a server may take until it is ready.
        stop_patience_s: time between SIGTERM and SIGKILL at the end.
    """

    def __init__(
        self,
        spec: AppSpec,
        port: int | None = None,
        wrap: Wrap | None = None,
        which: Which = "native",
        hold: bool = False,
        *,
        ready_timeout_s: float | None = None,
        stop_patience_s: float = 5.0,
        on_start: Callable[[Server], None] | None = None,
        relay: Callable[[Service, int], int] | None = None,
        only: str | None = None,
    ) -> None:
        self.spec = spec
        self.host = "127.0.0.1"
        self.which: Which = which
        self.exit_code: int | None = None
        self._wanted_port = port
        self._wrap = wrap
        self._hold = hold
        self._on_start = on_start
        self._relay = relay
        self._only = only
        self._clone: list[str] | None = None
        self._application = False
        self._ready_timeout_s = ready_timeout_s if ready_timeout_s is not None else _READY_S[which]
        self._stop_patience_s = stop_patience_s
        self._ports: dict[str, int] = {}
        self._folder: Path | None = None
        self._limits: LimitedGroup | None = None
        self._besides: list[Server] = []
        self._services: list[Server] = []
        self._clients: list[Client] = []
        self._count = 0

    @classmethod
    def for_clone(
        cls,
        spec: AppSpec,
        command: Sequence[str],
        port: int | None = None,
        wrap: Wrap | None = None,
        which: Which = "native",
        hold: bool = False,
        *,
        ready_timeout_s: float | None = None,
        stop_patience_s: float = 5.0,
    ) -> AppRun:
        """A run of ``command`` (with ``{port}``) in place of the app's entry service, under the app's own client."""
        run = cls(spec, port, wrap, which, hold, ready_timeout_s=ready_timeout_s, stop_patience_s=stop_patience_s)
        run._clone = list(command)
        return run

    @classmethod
    def for_application(
        cls,
        spec: AppSpec,
        wrap: Wrap | None = None,
        which: Which = "native",
        *,
        on_start: Callable[[Server], None] | None = None,
        only: str | None = None,
    ) -> AppRun:
        """A run of the clone of an app of several services: ``spec`` is from `clones.application_spec`."""
        run = cls(spec, None, wrap, which, on_start=on_start, only=only)
        run._application = True
        return run

    @property
    def is_clone(self) -> bool:
        """Whether a clone runs in the app's place."""
        return self._clone is not None or self._application

    # -- what is running ---------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The entry service's port in this run (0 before `start`)."""
        return self._ports.get("", 0)

    def port_of(self, name: str | None) -> int:
        """The port of a service or a server beside by its name; the entry's without one."""
        return self._ports[name or ""]

    @property
    def run_folder(self) -> Path:
        """Private folder of this run with the logs; removed by `stop`."""
        if self._folder is None:
            raise AppError(f"{self.spec.name} is not running", "start it first")
        return self._folder

    @property
    def entry(self) -> Server:
        """The entry service's process."""
        if not self._services:
            raise AppError(f"{self.spec.name} is not running", "start it first")
        return self._services[0]

    @property
    def services(self) -> tuple[Server, ...]:
        """All started services, the entry first."""
        return tuple(self._services)

    @property
    def pid(self) -> int:
        """Process number of the entry service as it was started."""
        return self.entry.pid

    def pids(self) -> list[int]:
        """Numbers of all live processes of the services, ascending."""
        return sorted(p.pid for p in self._processes())

    def cpu_times(self) -> CpuTimes:
        """CPU of all services since they were started, children that ended included."""
        return process.cpu_times(self._processes())

    def memory(self) -> Memory:
        """Resident memory of all services now."""
        return process.memory(self._processes())

    def disk_use(self) -> DiskUse | None:
        """What the services had disks do; None where the app has no limits, for then they have no group to count in."""
        return self._limits.disk_use() if self._limits is not None else None

    def _processes(self) -> set[ProcessId]:
        return {p for s in self._services if self._only in (None, s.name) for p in s.processes()}

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> AppRun:
        """Choose ports, run setup, start the servers beside and the services, and wait until they are ready.

        With ``hold`` the entry service waits before its exec: go on with `release` and `wait_ready`.

        Raises:
            AppError: a port is in use, a command failed, a server ended or was not ready in time.
            MissingCapabilityError: a command was not found.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        if self._folder is not None:
            raise AppError(f"{self.spec.name} is running already", "stop it first")
        process.become_subreaper()
        leftovers.remove_stale_folders()
        with interrupts.held():
            self._folder = leftovers.make_run_folder()
            live.add(self)
        self._ports = placeholders.choose_ports(self.spec, self.host, self._wanted_port, self.is_clone)
        if self.spec.setup:
            self._step("setup", self.spec.setup)
        for index, beside in enumerate(self.spec.beside):
            self._start_beside(index, beside)
        if self._clone is not None:
            self._clone += [word for n in range(called_services(self._clone[0])) for word in self._stand_in(n)]
        self._limits = limited_group(self.spec, self.which)
        for service in self.spec.start_order():
            self._start_service(service)
        if not self._hold:
            self.wait_ready()

    def release(self) -> None:
        """Let the held entry service go on to its exec."""
        self.entry.release()

    def wait_ready(self) -> None:
        """Wait until the entry service is ready.

        Raises:
            AppError: it ended or was not ready in time.
        """
        server = self.entry
        ready, said, seconds = self.spec.service.ready, None, self._ready_timeout_s
        if self._clone is not None:
            ready, said = ready_of_clone(ready, self.spec.load.clone_command is None), CLONE_TAKES_DATAGRAMS
        wait_ready(ready, self.host, self.port, server.log, server.check_alive, seconds, server.name, said)
        server.settle()

    def stop(self) -> None:
        """End everything this run started and remove its folder.  May be called at any time, any number of times."""
        with interrupts.held():
            for client in self._clients:
                client.stop()
            self._clients.clear()
            # The entry first, and each before those it calls.
            order = (*self._services[:1], *reversed(self._services[1:]), *reversed(self._besides))
            for number, server in enumerate(order):
                code = server.stop(self._stop_patience_s)
                if number == 0 and self._services:
                    self.exit_code = code
            self._services.clear()
            self._besides.clear()
            if self._limits is not None:
                self._limits.remove()
                self._limits = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
            live.discard(self)

    def __enter__(self) -> AppRun:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- client ------------------------------------------------------------------------------------------------

    def prepare(self) -> LoadResult | None:
        """Run the prepare commands, if there are any (not for a clone that the app's clients cannot talk to).

        Each service's own come first, in the order in which they started; the result is that of the last command.

        Raises:
            AppError: one failed, or a service ended.
        """
        if self.is_clone and self.spec.load.clone_command is not None:
            return None
        result = None
        for service in self.spec.start_order():
            if service.prepare is not None:
                name = f"prepare of {service.name or self.spec.name}"
                result = self._step(name, service.prepare.command, self.check_alive, self.port_of(service.name))
        if self.spec.prepare is not None:
            result = self._step("prepare", self.spec.prepare.command, self.check_alive)
        return result

    def start_load(
        self,
        requests: int | None = None,
        command: Sequence[str] | None = None,
        port: int | None = None,
        seconds: int | None = None,
    ) -> Client:
        """Start the client once, in the background.

        Args:
            requests: for ``{requests}``; the app's own number for this kind of run without it.
            command: another client than the app's (placeholders are replaced here too).
            port: for ``{port}``; the entry service's without it.
            seconds: for ``{seconds}``; the app's own without it.
        """
        own = self.spec.load.clone_command if self._clone is not None else None
        words = command or own or self.spec.load.command
        words = self._words(words, requests=requests, port=port, seconds=seconds)
        commands.require_program(words, self.spec.folder, "load")
        with interrupts.held():
            client = Client(words, self.spec.folder, self._environment(), self._marker("load"), self.run_folder, "load")
            client.makes = None if command else self.spec.load.makes
            # Ended clients need no stopping: keep the list short in long series.
            self._clients = [c for c in self._clients if c.is_running()]
            self._clients.append(client)
        return client

    def load(
        self,
        requests: int | None = None,
        command: Sequence[str] | None = None,
        timeout_s: float = _STEP_TIMEOUT_S,
        port: int | None = None,
        seconds: int | None = None,
    ) -> LoadResult:
        """Run the client once to its end.

        Raises:
            AppError: it failed, was not done after ``timeout_s``, or the service ended.
        """
        return self.start_load(requests, command, port, seconds).wait(timeout_s, self.check_alive)

    def load_for(self, seconds: float, requests: int | None = None, again: bool = True) -> list[LoadResult]:
        """Keep the client running for ``seconds``: again when it ends early, if asked to; ended when it lasts longer.

        Raises:
            AppError: a run of it failed, or the service ended.
        """
        results: list[LoadResult] = []
        deadline = time.monotonic() + seconds
        while ((left := deadline - time.monotonic()) > 0 and again) or not results:
            client = self.start_load(requests)
            until = time.monotonic() + max(left, 0.0)
            try:
                while client.is_running() and time.monotonic() < until:
                    self.check_alive()
                    client.pause(min(0.05, until - time.monotonic()))
            except BaseException:
                client.stop()
                raise
            results.append(client.stop() if client.is_running() else client.wait(check=self.check_alive))
        return results

    def check_alive(self) -> None:
        """Raise AppError when a service has ended."""
        for server in self._services:
            server.check_alive()

    # -- parts -------------------------------------------------------------------------------------------------

    def _words(self, words: Sequence[str], **values: int | None) -> list[str]:
        return placeholders.fill(self.spec, self.which, self._ports, words, **values)

    def _environment(self, extra: dict[str, str] | None = None, port: int | None = None) -> dict[str, str]:
        base = commands.environment_in(self.spec.folder)
        return base | {key: self._words([value], port=port)[0] for key, value in (extra or {}).items()}

    def _marker(self, role: str) -> str:
        self._count += 1
        return f"{self.run_folder.name}.{role}{self._count}"

    def _step(
        self, name: str, words: Sequence[str], check: Callable[[], None] = lambda: None, port: int | None = None
    ) -> LoadResult:
        command = self._words(words, port=port)
        commands.require_program(command, self.spec.folder, name)
        with interrupts.held():
            marker = self._marker(name.split()[0])
            client = Client(command, self.spec.folder, self._environment(), marker, self.run_folder, name)
            self._clients.append(client)
        return client.wait(_STEP_TIMEOUT_S, check)

    def _start_beside(self, index: int, beside: Beside) -> None:
        name = beside.name or f"beside{index}"
        port = self._ports.get(name)
        command = self._words(beside.command, port=port)
        server = self._launch(name, command, self._environment(beside.env, port), self._besides, hold=False)
        wait_ready(beside.ready, self.host, port, server.log, server.check_alive, self._ready_timeout_s, name)
        server.processes()

    def _stand_in(self, number: int) -> tuple[str, str]:
        """Start what stands in for a service that the clone calls; the clone's option that tells where it is."""
        assert self._clone is not None
        port, name = ports.find_free(self.host), f"stand-in {number} of {self.spec.name}"
        command = [self._clone[0], "--stub", str(number), "--port", str(port)]
        server = self._launch(name, command, self._environment(), self._besides, hold=False)
        wait_ready(Ready(), self.host, port, server.log, server.check_alive, self._ready_timeout_s, name)
        return "--downstream", f"{number}={self.host}:{port}"

    def _start_service(self, service: Service) -> None:
        entry = service is self.spec.service
        port = self.port_of(service.name)
        watched = self._only in (None, service.name)
        words = self._clone if entry and self._clone else service.command_for(self.which if watched else "native")
        name = service.name or self.spec.name
        if entry and self._clone is not None:
            name = f"clone of {name}"
        command, environment = self._words(words, port=port), self._environment(service.env, port)
        command[0] = commands.require_program(command, self.spec.folder, name)
        if self._wrap is not None and watched:
            command, environment = self._wrap(command, environment)
        if self._limits is not None:
            command, environment = self._limits.wrap(command, environment)
        held = (entry and self._hold) or self._on_start is not None
        server = self._launch(name, command, environment, self._services, held)
        if entry:
            self._services.remove(server)
            self._services.insert(0, server)
        if self._on_start is not None:
            self._on_start(server)
            if not (entry and self._hold):
                server.release()
        if entry:
            return
        wait_ready(service.ready, self.host, port, server.log, server.check_alive, self._ready_timeout_s, name)
        server.processes()
        if self._relay is not None:
            self._ports[service.name or ""] = self._relay(service, port)

    def _launch(
        self, name: str, command: list[str], environment: dict[str, str], keep: list[Server], hold: bool
    ) -> Server:
        commands.require_program(command, self.spec.folder, name)
        marker = self._marker("server")
        log = self.run_folder / f"{marker.rpartition('.')[2]}.log"
        environment = {**environment, process.MARKER: marker}
        with interrupts.held():
            popen = process.spawn(command, folder=self.spec.folder, environment=environment, output=log, hold=hold)
            server = Server(name, popen, marker, log, hold)
            keep.append(server)
        return server
