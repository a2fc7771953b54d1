"""The app as its owner describes it: the commands that start, fill and load it (``app.toml``)."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ditto.errors import BadInputError

Which = Literal["native", "lens"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_PORT_OF = re.compile(r"\{port:([^{}]*)\}")


def _as_command(value: object) -> object:
    if isinstance(value, str):
        raise ValueError('a command is an array of words, such as ["redis-server", "--port", "{port}"]')
    if isinstance(value, list | tuple) and (not value or value[0] == ""):
        raise ValueError("a command needs at least the program's name")
    return value


Command = Annotated[tuple[str, ...], BeforeValidator(_as_command)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ready(_Frozen):
    """When a server may be used.  Exactly one form; without any, once its port accepts a connection.

    Attributes:
        http: path that must answer with a status below 500.
        log: regular expression to be found in what the server prints.
        seconds: time to wait.
    """

    http: str | None = None
    log: str | None = None
    seconds: float | None = Field(default=None, ge=0, le=3600)

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> Any:
        if value == "tcp":
            return {}
        if isinstance(value, str):
            raise ValueError('write "tcp", { http = "/path" }, { log = "regex" } or { seconds = 2 }')
        if isinstance(value, dict) and len(set(value) & {"http", "log", "seconds"}) != 1 and value:
            raise ValueError('give exactly one of { http = "/path" }, { log = "regex" } or { seconds = 2 }')
        return value

    @field_validator("http")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"^/[!-~]*$", value):
            raise ValueError("an http path begins with / and has no blanks")
        return value

    @field_validator("log")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value


class Beside(_Frozen):
    """A server that the app needs and that is not cloned.  Without a port it counts as ready when started."""

    command: Command
    port: Port | None = None
    name: str | None = Field(default=None, pattern=_NAME)
    env: dict[str, str] = {}
    ready: Ready = Ready()


class Prepare(_Frozen):
    """Run once after the service is ready: fills it with data."""

    command: Command


class Service(_Frozen):
    """One program to clone.

    Attributes:
        port: its usual port; tools replace ``{port}`` by a free one, in other services' words ``{port:NAME}``.
        lens_command: the same program as Valgrind needs it started, where that differs.
        prepare: fills this service, of an app of several, with data.
    """

    command: Command
    port: Port
    name: str | None = Field(default=None, pattern=_NAME)
    env: dict[str, str] = {}
    ready: Ready = Ready()
    lens_command: Command | None = None
    prepare: Prepare | None = None

    def words(self) -> tuple[str, ...]:
        """All in which placeholders are replaced before it starts."""
        return (*self.command, *(self.lens_command or ()), *self.env.values())

    def command_for(self, which: Which) -> tuple[str, ...]:
        """The command of the native or the lens run, placeholders not replaced."""
        return self.lens_command if which == "lens" and self.lens_command else self.command


class Limits(_Frozen):
    """What the servers are held to, where they are observed and compared; clones are held to the same.

    Attributes:
        memory: bytes, page cache included; a number with K, M or G in the file.
        read_iops: reads a second on the disk that their files are on.
    """

    memory: int | None = Field(default=None, ge=1 << 20, le=1 << 44)
    read_iops: int | None = Field(default=None, ge=1, le=10_000_000, strict=True)

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
        found = re.fullmatch(r"(\d{1,12})([KMG]?)", value) if isinstance(value, str) else None
        if not found:
            raise ValueError('a size is a text such as "96M" (K, M or G)')
        return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


class Requests(_Frozen):
    """How many requests one run of the load makes: natively, and under the (much slower) lens."""

    native: int = Field(default=100_000, ge=1)
    lens: int = Field(default=5_000, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"native": value, "lens": value}
        return value


class Load(_Frozen):
    """A real client.  It ends by itself: after ``{requests}``, after ``{seconds}``, or after a time of its own.

    Attributes:
        requests: for ``{requests}``; of a command without it and without ``{seconds}``, how many a run makes.
        seconds: for ``{seconds}``, where nothing asks for another time.
        count: a regular expression with one group around the number of requests that the client prints, for clients
            that print it in a way of their own.
        clone_command: another client for the clone, where the app's own cannot talk to it; it takes the same
            placeholders.  The clone is then not filled either.
    """

    command: Command
    requests: Requests = Requests()
    seconds: int = Field(default=4, ge=1, le=600, strict=True)
    connections: int = Field(default=1, ge=1)
    count: str | None = None
    clone_command: Command | None = None

    @field_validator("count")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.compile(value).groups != 1:
                raise ValueError("one group around the number is needed")
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from error
        return value

    @property
    def counts_requests(self) -> bool:
        """Whether the number of requests can be set (the command has ``{requests}``)."""
        return any("{requests}" in word for word in self.command)

    @property
    def makes(self) -> int | None:
        """Requests that a run makes, where the command takes neither a number nor a time, and app.toml tells one."""
        told = "requests" in self.model_fields_set and not self.counts_requests and not self.takes_seconds
        return self.requests.native if told else None

    @property
    def takes_seconds(self) -> bool:
        """Whether the time can be set (the command has ``{seconds}``)."""
        return any("{seconds}" in word for word in self.command)

    @property
    def first_requests(self) -> int:
        """Requests of a first load, by which a recording is timed; calls are counted after as many."""
        return max(1000, self.requests.lens)


class AppSpec(_Frozen):
    """A checked ``app.toml``.

    Attributes:
        path: the file it was read from.
        services: at least one; the first is the entry, which the load drives.
    """

    name: str = Field(pattern=_NAME)
    services: tuple[Service, ...] = Field(min_length=1)
    load: Load
    setup: Command | None = None
    beside: tuple[Beside, ...] = ()
    prepare: Prepare | None = None
    limits: Limits | None = None
    path: Path

    @property
    def folder(self) -> Path:
        """The working directory of every command of the app."""
        return self.path.parent

    @property
    def service(self) -> Service:
        """The entry service: the one that the load drives."""
        return self.services[0]

    @property
    def several(self) -> bool:
        """Whether the app has more than one service."""
        return len(self.services) > 1

    def start_order(self) -> tuple[Service, ...]:
        """The services, each after those whose port it is told, the entry last; else as they are listed."""
        order: list[Service] = []
        waiting: list[Service] = [*self.services[1:]]
        while waiting:
            names = {service.name for service in waiting}
            # Services that name each other can only be started as they are listed.
            free = [service for service in waiting if not (ports_named(service.words()) - {service.name}) & names]
            order.append((free or waiting)[0])
            waiting.remove(order[-1])
        return (*order, self.service)

    @property
    def port_can_change(self) -> bool:
        """Whether a free port can be put in place of the usual one: server and client both take ``{port}``.

        Where the load goes to a server beside, the service is called by that, which setup tells the port.
        """
        entry = self.service
        setup = any("{port}" in word for word in self.setup or ())
        server = setup or any("{port}" in word for word in (*entry.command, *entry.env.values()))
        return server and (any("{port}" in word for word in self.load.command) or (setup and self.fronted))

    @property
    def may_stand_twice(self) -> bool:
        """Whether the app and its clone may run at once: nothing of the app has a place that cannot be another.

        Its limits hold one of them at a time, for what they do to disks and the page cache is everybody's.
        """
        words = (self.setup or (), self.prepare.command if self.prepare else (), self.load.command)
        besides = [(*server.command, *server.env.values()) for server in self.beside]
        placed = [(*self.service.command, *self.service.env.values()), *(w for w in (*words, *besides) if w)]
        alone = self.several or self.limits is not None
        return not alone and all("{port" in " ".join(words) for words in placed)

    @property
    def fronted(self) -> bool:
        """Whether the load goes to a server beside, in front of the service."""
        fronts = {server.name for server in self.beside if server.name and server.port is not None}
        return bool(ports_named(self.load.command) & fronts)


def ports_named(words: Iterable[str]) -> set[str]:
    """Names of the servers whose ports the words take: ``NAME`` of each ``{port:NAME}``."""
    return {name for word in words for name in _PORT_OF.findall(word)}


def substitute(words: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """``words`` with each ``{key}`` of ``values`` replaced; other braces are left as they are."""
    result = []
    for word in words:
        for key, value in values.items():
            word = word.replace("{" + key + "}", value)
        result.append(word)
    return result


def load_app(path: Path) -> AppSpec:
    """Read and check an ``app.toml``.

    Raises:
        BadInputError: the file cannot be read, is not TOML, lacks a key or holds one that is not known;
            the message names the file and the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInputError(
            f"{path}: no such file", "give the path of an app.toml, such as examples/redis.toml"
        ) from None
    except IsADirectoryError:
        raise BadInputError(f"{path}: is a folder", "give the path of the app.toml in it") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: not UTF-8 text (byte {error.start})", "save the file as UTF-8") from None
    except PermissionError:
        raise BadInputError(f"{path}: not readable by this user", f"chmod u+r {path}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path}: not valid TOML: {error}", "correct the file at that place") from None
    data = {key: value for key, value in data.items() if key != "eval" and not key.startswith("x-")}
    return _check(path, data)


def _check(path: Path, data: dict[str, Any]) -> AppSpec:
    for key in ("services", "path"):
        if key in data:
            raise _unknown(path, (key,))
    if "service" not in data:
        raise BadInputError(f"{path}: service: missing", 'add a [service] table with "command" and "port"')
    service = data.pop("service")
    many = isinstance(service, list)
    data["services"] = service if many else [service]
    data["path"] = path.absolute()
    try:
        spec = AppSpec.model_validate(data)
    except ValidationError as error:
        raise _as_bad_input(path, error, many) from None
    names = [s.name for s in spec.services]
    if many and (None in names or len(set(names)) != len(names)):
        raise BadInputError(f"{path}: service.name: missing or used twice", "give each [[service]] a name of its own")
    _check_ports(path, spec)
    return spec


def _check_ports(path: Path, spec: AppSpec) -> None:
    """Refuse a ``{port:NAME}`` that no server has."""
    servers: tuple[Service | Beside, ...] = (*spec.services, *spec.beside)
    known = {server.name for server in servers if server.name and server.port is not None}
    steps = [("setup", spec.setup), ("load.command", spec.load.command)]
    steps += [("load.clone_command", spec.load.clone_command)]
    steps += [("prepare.command", step.command) for step in (spec.prepare, *(s.prepare for s in spec.services)) if step]
    steps += [(f"{server.name or 'service'}", (*server.command, *server.env.values())) for server in servers]
    for place, words in steps:
        for name in sorted(ports_named(words or ()) - known):
            listed = f"the servers with a name and a port are: {', '.join(sorted(known)) or 'none'}"
            raise BadInputError(f"{path}: {place}: {{port:{name}}} names no server", listed)


def _as_bad_input(path: Path, error: ValidationError, many: bool) -> BadInputError:
    # Unknown keys first: a mistyped key also shows up as a missing one, and the typing error is the cause.
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    loc = [part for part in found["loc"] if not isinstance(part, str) or "[" not in part]
    if loc and loc[0] == "services":
        loc = ["service", *(loc[1:] if many else loc[2:])]
    place = ".".join(str(part) for part in loc) or "the file"
    if found["type"] == "extra_forbidden":
        return _unknown(path, tuple(loc))
    if found["type"] == "missing":
        return BadInputError(f"{path}: {place}: missing", f"add it: {_HELP.get(str(loc[-1]), 'see docs for app.toml')}")
    message = found["msg"].removeprefix("Value error, ")
    return BadInputError(f"{path}: {place}: {message}", _HELP.get(str(loc[-1]) if loc else "", "correct this key"))


_HELP = {
    "name": 'name = "redis" (letters, digits, ".", "_" and "-")',
    "command": 'command = ["program", "argument", "{port}"]',
    "setup": 'setup = ["sh", "make-config.sh"]',
    "lens_command": 'lens_command = ["program", "argument", "{port}"]',
    "port": "port = 6379 (1 to 65535)",
    "load": 'a [load] table with command = ["client", "{port}", "{requests}"]',
    "requests": "requests = { native = 200000, lens = 8000 }",
    "connections": "connections = 20",
    "ready": 'ready = "tcp", { http = "/health" }, { log = "regex" } or { seconds = 2 }',
    "memory": 'memory = "96M"',
    "read_iops": "read_iops = 500",
    "env": 'env = { KEY = "text" }',
}

_TABLES: dict[str, type[BaseModel]] = {
    "service": Service,
    "beside": Beside,
    "prepare": Prepare,
    "load": Load,
    "requests": Requests,
    "limits": Limits,
    "ready": Ready,
}


def _unknown(path: Path, loc: tuple[str | int, ...]) -> BadInputError:
    key = str(loc[-1])
    tables = [str(part) for part in loc[:-1] if isinstance(part, str)]
    model = _TABLES.get(tables[-1]) if tables else None
    if model is not None:
        known = sorted(model.model_fields)
    else:
        known = sorted((set(AppSpec.model_fields) - {"services", "path"}) | {"service"})
    close = difflib.get_close_matches(key, known, n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    place = ".".join(str(part) for part in loc)
    where = f"in [{'.'.join(tables)}]" if tables else "at the top"
    return BadInputError(f"{path}: {place}: unknown key", f"{hint}keys {where}: {', '.join(known)}")
