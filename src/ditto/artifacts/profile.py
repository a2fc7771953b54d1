"""The profile: the fitted, shareable model of an app.  Numbers and shapes only.

A profile holds no path, payload, symbol, address or name of the app: services, roles and classes are numbered;
protocol words (``GET``) come from the public command table of the codec; HTTP paths appear as 12-bit keyed
fingerprints.  It may come from a stranger, so every number here is bounded and everything unknown is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ditto.artifacts.base import Bytes, Count, Model, Probability, SmallInt, SyscallNumber
from ditto.artifacts.files import write_atomic
from ditto.artifacts.knobs import Knobs as Knobs
from ditto.artifacts.program import FILE_SLOTS, MAX_DOWNSTREAMS, MAX_FILE_GROUPS
from ditto.artifacts.program import MAX_LINKS as MAX_LINKS
from ditto.artifacts.program import Dist as Dist
from ditto.artifacts.program import Inbox as Inbox
from ditto.artifacts.program import Op as Op
from ditto.artifacts.program import OpenAtStart as OpenAtStart
from ditto.artifacts.program import OpKind as OpKind
from ditto.artifacts.program import Passage as Passage
from ditto.artifacts.program import Program as Program
from ditto.artifacts.program import Timer as Timer
from ditto.artifacts.reading import read_model
from ditto.artifacts.work import Block

FORMAT_VERSION = 1
MAX_PROFILE_BYTES = 64 << 20

CallCodec = Literal["opaque", "http1", "resp2", "memcached", "fastcgi", "h2", "pgsql", "mysql"]
"""Protocols in which a clone can call; any other is called in the opaque one."""
KEYED_CODECS = frozenset({"resp2", "memcached"})
"""Protocols of stores whose clones keep what they are given."""


class Column(Model):
    """A column of a database's results; see ``struct ditto_column``.  ``none`` is the share without a value."""

    name_bytes: Annotated[int, Field(ge=0, le=1024)]
    type_id: Annotated[int, Field(ge=0, le=16383)]
    type_bytes: Annotated[int, Field(ge=-(1 << 31), le=0xFFFFFFFF)]
    binary: bool = False
    flags: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    none: Probability = 0.0
    size: Dist | None = None


class ReplyShape(Model):
    """One kind of reply of a request class; see ``struct ditto_reply``.

    ``columns_known``: the columns of a prepared statement are left out for clients that remember them.
    """

    probability: Probability
    kind: Literal[
        "simple", "error", "integer", "bulk", "nil", "array",
        "value", "miss", "stored", "not_stored", "exists", "not_found", "deleted", "touched", "number", "ok", "version",
        "stats", "http", "http_chunked", "http_close", "opaque", "dns", "fastcgi", "h2", "grpc", "rows", "done",
        "failed", "session",
    ]  # fmt: skip
    status: Annotated[int, Field(ge=0, le=999)] = 0
    head_bytes: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    count: Dist | None = None
    size: Dist | None = None
    second: Dist | None = None
    columns: Annotated[list[Column], Field(max_length=256)] = []
    columns_known: bool = False


class ClassMatch(Model):
    """How a request is recognised as of a class; see ``struct ditto_match``.

    ``fold_print`` is the fingerprint of the path without its digits, where that is another: a called service may go
    by it.
    """

    verb: Annotated[str, Field(pattern=r"^[A-Za-z_]{0,24}$")] = ""
    argc: Annotated[int, Field(ge=0, le=65535)] = 0
    path_print: Annotated[int, Field(ge=-1, le=4095)] = -1
    fold_print: Annotated[int, Field(ge=-1, le=4095)] = -1
    min_bytes: Bytes = 0
    max_bytes: Bytes = 0


class Send(Model):
    """How replies are sent; see ``struct ditto_send``."""

    nr: SyscallNumber
    flags: SmallInt = 0
    call_bytes: Bytes = 0
    iovs: Annotated[int, Field(ge=1, le=1024)] = 1
    iov_bytes: Bytes = 0
    calls_per_wake: Annotated[int, Field(ge=0, le=65535)] = 0
    per_read: bool = False
    arm: bool = True
    between_block: Annotated[int, Field(ge=0, le=255)] | None = None
    parts: Annotated[list[Annotated[int, Field(ge=1, le=1 << 30)]], Field(max_length=16)] = []


class RequestClass(Model):
    """A cluster of requests that run the same operations.

    ``closes`` is the share of them after whose reply the server closes the connection, ``together`` how many requests
    come in one receive that begins with one of these, ``again`` the share of them before which their thread served
    another of the class (None: as many as their probability makes it).  ``rounds`` is how often a loop of tasks asks
    for events between a request's receive and its deferred operations.  ``awaits_sync`` is the share of them that leave
    out writes and syncs that come together, done by another's; ``reply_draw`` the draw that tells the reply (0: none).
    """

    probability: Probability
    match: ClassMatch
    request_bytes: Dist
    replies: Annotated[list[ReplyShape], Field(min_length=1, max_length=64)]
    program: Program
    send: Send | None = None
    closes: Probability = 0.0
    together: Annotated[float, Field(ge=1, le=1e6)] = 1.0
    again: Probability | None = None
    rounds: Annotated[int, Field(ge=1, le=255)] = 1
    awaits_sync: Probability = 0.0
    reply_draw: Annotated[int, Field(ge=0, le=512)] = 0


class Role(Model):
    """What a kind of thread does; see ``struct ditto_role``.

    ``listen_wait``, ``accept_first``, ``receive_first``, ``waits_once`` and ``before_accept`` are for threads that
    serve one connection at a time: how they wait for the next, whether they try to accept or receive before, or wait
    for a request's first part alone, and what they do before each accept.  ``each_wake`` are calls right after each
    wait, ``each_wait`` those right before it, ``each_batch`` what is done once for all requests of a wake-up that ask
    for it, before they are answered.  ``polls``, ``crowd``, ``polls_first``, ``unwatches``, ``mutes`` and ``running``
    are for threads that share connections: whether they wait for events (``crowd``: all at once, else in turn), ask
    without blocking before, whether a dispatcher takes each connection out of the wait set with its report, or leaves
    it for none, how many run at a time at most (0: all), and how often they wake nobody a report or wake-up.  By
    ``asks_nr`` they ask before they receive, and after ``lingers`` of the requests wait for that connection's next.
    The dispatcher of a ``crowd`` only accepts, and waits by ``listen_wait``.  ``relisten``: after so many accepts a
    loop takes the listener out of its wait set and adds it again (0: never).  ``leads_session``: a process that begins
    with such a thread leads a session.
    """

    kind: Literal[
        "loop", "periodic", "idle", "serve", "accept_serve", "shared", "dispatch", "helper", "pull", "worker", "child"
    ]
    count: Annotated[int, Field(ge=1, le=1024)]
    wait: Literal["epoll", "epoll_pwait", "poll", "select", "blocking"] = "epoll"
    wait_nr: SyscallNumber = 0
    max_events: Annotated[int, Field(ge=1, le=65535)] = 64
    timeout_ms: Annotated[int, Field(ge=-1, le=1 << 30)] = -1
    listens: bool = False
    listen_events: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 1
    relisten: Annotated[int, Field(ge=0, le=65535)] = 0
    handover: Literal["keep", "queue", "spawn_thread", "spawn_process", "pass", "pool", "cached"] = "keep"
    hand_to: Annotated[int, Field(ge=-1, le=255)] = -1
    notify_nr: SyscallNumber = 0
    inbox: Inbox | None = None
    passage: Passage | None = None
    deferred_lifo: bool = False
    each_wake: Program = []
    each_wait: Program = []
    each_batch: Program = []
    deferred_late: bool = False
    on_wake_block: Annotated[int, Field(ge=0, le=255)] | None = None
    before_wait_block: Annotated[int, Field(ge=0, le=255)] | None = None
    polls: bool = False
    crowd: bool = False
    polls_first: bool = False
    unwatches: bool = False
    mutes: bool = False
    running: Annotated[int, Field(ge=0, le=1024)] = 0
    leads_session: bool = False
    wakes: Annotated[float, Field(ge=0, le=64)] = 0.0
    asks_nr: SyscallNumber = 0
    lingers: Probability = 0.0
    on_unpark_block: Annotated[int, Field(ge=0, le=255)] | None = None
    listen_wait: Literal["epoll", "epoll_pwait", "poll", "select", "blocking"] = "blocking"
    accept_first: bool = True
    receive_first: bool = False
    waits_once: bool = False
    before_accept: Program = []
    on_accept: Program = []
    on_adopt: Program = []
    on_close: Program = []
    timers: Annotated[list[Timer], Field(max_length=64)] = []


class Process(Model):
    """A kind of process: how many, whose child, which thread roles (the first on the main thread)."""

    parent: Annotated[int, Field(ge=-1, le=255)] = -1
    count: Annotated[int, Field(ge=1, le=1024)] = 1
    roles: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=1, max_length=64)]
    open_at_start: Annotated[list[OpenAtStart], Field(max_length=56)] = []


class Receive(Model):
    """How requests are received; see ``struct ditto_recv``."""

    nr: SyscallNumber
    bytes: Annotated[int, Field(ge=1, le=1 << 26)]
    flags: SmallInt = 0
    until_again: bool = False
    until_short: bool = False
    lines: bool = False
    head: Annotated[int, Field(ge=0, le=4096)] = 0
    second: Annotated[int, Field(ge=0, le=4096)] = 0
    rest: Annotated[int, Field(ge=0, le=1 << 26)] = 0
    batch: Annotated[int, Field(ge=0, le=1024)] = 0
    enough: Annotated[int, Field(ge=0, le=65535)] = 0


class Listener(Model):
    """The listening socket; see ``struct ditto_listener``."""

    backlog: Annotated[int, Field(ge=0, le=1 << 20)] = 511
    nonblocking: bool = True
    datagrams: bool = False
    answers_last: bool = False
    rewatches: bool = False
    reuseport: bool = False
    accept_nr: SyscallNumber = 288
    accept_flags: SmallInt = 0
    accept_until_again: bool = False
    sockopts: Program = []


class FileGroup(Model):
    """Files the service uses, by kind; never by name."""

    kind: Literal[
        "regular", "proc_self_stat", "proc_self_status", "proc_self_smaps", "proc_meminfo", "proc_loadavg", "proc_stat",
        "dev_urandom", "dev_null", "missing",
    ]  # fmt: skip
    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    depth: Annotated[int, Field(ge=0, le=32)] = 1
    append: bool = False
    size: Dist | None = None


class Load(Model):
    """The load under which the service was observed."""

    connections: Annotated[int, Field(ge=0, le=1_000_000)]
    requests_per_second: Count
    requests_per_wake: Count = 1.0


class CallPart(Model):
    """A request that is sent together with another; its replies come after that one's."""

    match: ClassMatch
    request_bytes: Dist
    replies: Annotated[list[ReplyShape], Field(min_length=1, max_length=64)]


class CallClass(Model):
    """A kind of request to another service, and what that answers.

    ``delay_us`` is how long the reply took, in microseconds; ``closes`` the share of replies after which the called
    service closed the connection; ``more`` are the requests that are sent together with this one.
    """

    probability: Probability
    match: ClassMatch
    request_bytes: Dist
    replies: Annotated[list[ReplyShape], Field(min_length=1, max_length=64)]
    delay_us: Dist | None = None
    closes: Probability = 0.0
    more: Annotated[list[CallPart], Field(max_length=64)] = []


class Downstream(Model):
    """Another service that this one calls; see ``struct ditto_downstream``.  Where it is, is told when a clone starts.

    Attributes:
        codec, print_key, classes: how it is spoken to, as in the profile of a service.
        pool: whether connections are made for each request, or kept by the client's connection or by the thread.
        blocking: replies are waited for by the receive itself.
        receive: how replies are received, at first.
        further: and then: what a reply's second receive is like, its third and so on; the last is that of all after it.
        connect: makes a connection.
    """

    codec: CallCodec
    print_key: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    pool: Literal["request", "connection", "thread"] = "thread"
    blocking: bool = False
    receive: Receive
    further: Annotated[list[Receive], Field(max_length=16)] = []
    connect: Program
    classes: Annotated[list[CallClass], Field(min_length=1, max_length=64)]


class ServiceProfile(Model):
    """One service of the app.

    ``runtime_lines`` are data lines that the clone's runtime touches in a request, ``runtime_sets`` its lines of code
    by sets of a cache (empty: unknown), ``stored_bytes`` the part of the resident memory that it takes for what clients
    store, and ``stored_scale`` what a stored value takes of memory, in its own size.  Tuning finds all of them.
    ``born_bytes`` is the part of ``resident_bytes`` of processes that live for one connection, and ``file_bytes`` that
    of pages of files, for which a limit of memory charges whoever has read them first.  ``folds`` where
    digits in paths tell no class: fingerprints are of paths without them.  ``starts_empty`` where a keyed store's reads
    hit what its clients have stored since it was started, and nothing else.
    ``body`` tells how blocks are known: counted, modelled from samples (`ditto.streams.sampled`), or not at all.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    codec: Literal["opaque", "http1", "resp2", "memcached", "dns", "pgsql", "mysql", "fastcgi", "h2"]
    print_key: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    folds: bool = False
    starts_empty: bool = False
    classes: Annotated[list[RequestClass], Field(min_length=1, max_length=256)]
    receive: Receive
    send: Send
    listener: Listener
    roles: Annotated[list[Role], Field(min_length=1, max_length=64)]
    processes: Annotated[list[Process], Field(min_length=1, max_length=64)]
    files: Annotated[list[FileGroup], Field(max_length=MAX_FILE_GROUPS)] = []
    blocks: Annotated[list[Block], Field(max_length=256)] = []
    body: Literal["counted", "sampled", "empty"] = "counted"
    downstreams: Annotated[list[Downstream], Field(max_length=MAX_DOWNSTREAMS)] = []
    resident_bytes: Annotated[int, Field(ge=0, le=1 << 42)] = 0
    born_bytes: Annotated[int, Field(ge=0, le=1 << 42)] = 0
    file_bytes: Annotated[int, Field(ge=0, le=1 << 42)] = 0
    stored_bytes: Annotated[int, Field(ge=0, le=1 << 42)] = 0
    stored_scale: Annotated[float, Field(ge=1, le=16)] = 1.0
    runtime_lines: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    runtime_sets: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 12)], ...], Field(max_length=64)] = ()
    load: Load


class Profile(Model):
    """The whole profile file."""

    format_version: Literal[1] = 1
    ditto_version: Annotated[str, Field(pattern=r"^[0-9a-z.+-]{1,32}$")]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    services: Annotated[list[ServiceProfile], Field(min_length=1, max_length=1000)]
    knobs: Knobs = Knobs()

    @model_validator(mode="after")
    def _references_exist(self) -> Profile:
        for service in self.services:
            for problem in _dangling(service):
                raise ValueError(f"{service.name}: {problem}")
        return self

    def save(self, path: Path) -> None:
        """Write the profile as JSON, replacing the file as a whole."""
        write_atomic(path, self.model_dump_json(indent=1, exclude_defaults=False) + "\n")


def _programs(service: ServiceProfile) -> list[list[Op]]:
    programs = [cls.program for cls in service.classes]
    for role in service.roles:
        programs += [
            role.each_wake,
            role.each_wait,
            role.each_batch,
            role.before_accept,
            role.on_accept,
            role.on_adopt,
            role.on_close,
            *(timer.program for timer in role.timers),
        ]
    return programs + [downstream.connect for downstream in service.downstreams]


def _dangling(service: ServiceProfile) -> list[str]:
    """References to blocks, roles, processes or files that do not exist."""
    problems = []
    blocks = {op.block for program in _programs(service) for op in program}
    problems += [
        f"request class {b.request_class} does not exist"
        for b in service.blocks
        if b.request_class >= len(service.classes)
    ]
    blocks |= {
        block for role in service.roles for block in (role.on_wake_block, role.before_wait_block, role.on_unpark_block)
    }
    blocks.add(service.send.between_block)
    blocks |= {cls.send.between_block for cls in service.classes if cls.send is not None}
    problems += [f"block {b} does not exist" for b in blocks if b is not None and b >= len(service.blocks)]
    for index, process in enumerate(service.processes):
        if process.parent >= index:
            problems.append(f"process {index} has a parent that comes after it")
        problems += [f"role {r} does not exist" for r in process.roles if r >= len(service.roles)]
        if any(r < len(service.roles) and service.roles[r].kind == "child" for r in process.roles):
            problems.append("a process has a role that is for children")
        problems += [
            f"file group {o.group} does not exist" for o in process.open_at_start if o.group >= len(service.files)
        ]
    for role in service.roles:
        if role.hand_to >= len(service.roles):
            problems.append(f"role {role.hand_to} does not exist")
        elif role.handover == "pass" and (role.hand_to < 0 or service.roles[role.hand_to].passage is None):
            problems.append("connections pass to a role that takes none")
        elif role.kind == "dispatch" and (role.hand_to < 0 or service.roles[role.hand_to].kind != "shared"):
            problems.append("a dispatcher hands to no role that shares connections")
    for program in _programs(service):
        for op in program:
            if op.kind in (OpKind.FILE_OPEN, OpKind.FILE_STAT) and not 0 <= op.a < len(service.files):
                problems.append(f"file group {op.a} does not exist")
            if op.kind.value.startswith("file_") and op.kind is not OpKind.FILE_STAT and not 0 <= op.b < FILE_SLOTS:
                problems.append(f"file slot {op.b} does not exist")
            if op.kind is OpKind.COMPUTE and op.block is None:
                problems.append("a compute operation names no block")
            if op.kind is OpKind.FORK and not (0 <= op.a < len(service.roles) and service.roles[op.a].kind == "child"):
                problems.append(f"a fork is for role {op.a}, which is no child's")
            if op.kind is OpKind.CALL:
                problems += _dangling_call(service, op)
    return problems


def _dangling_call(service: ServiceProfile, op: Op) -> list[str]:
    if op.link is None:
        return ["a call names no connection"]
    if not 0 <= op.a < len(service.downstreams):
        return [f"downstream {op.a} does not exist"]
    known = len(service.downstreams[op.a].classes)
    return [f"class {value} of downstream {op.a} does not exist" for value in (op.size.values if op.size else [])
            if value >= known]  # fmt: skip


def load_profile(path: Path) -> Profile:
    """Read and validate a profile.

    Raises:
        BadInputError: unreadable, too large, not JSON, or outside the schema; names the place.
        FormatVersionError: another format version.
    """
    remedy = "name a profile.json made by this version's 'ditto model'"
    return read_model(path, Profile, FORMAT_VERSION, remedy, most_bytes=MAX_PROFILE_BYTES)
