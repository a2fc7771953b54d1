"""Emitter: the IR as ``tables.c``, const data for the runtime (``native/runtime/ditto.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ditto.artifacts.profile import Dist, FileGroup, Op, Process, ReplyShape, RequestClass, Role, Send, Timer
from ditto.generate.body import BodyCode
from ditto.generate.ir import CloneIR
from ditto.generate.memory import touched_bytes

ALWAYS = 0xFFFFFFFF

_WAITS = {
    "epoll": "DITTO_WAIT_EPOLL",
    "epoll_pwait": "DITTO_WAIT_EPOLL_PWAIT",
    "poll": "DITTO_WAIT_POLL",
    "select": "DITTO_WAIT_SELECT",
    "blocking": "DITTO_WAIT_BLOCKING",
}
_HANDOVERS = {
    "keep": "DITTO_HAND_KEEP",
    "queue": "DITTO_HAND_QUEUE",
    "spawn_thread": "DITTO_HAND_SPAWN_THREAD",
    "spawn_process": "DITTO_HAND_SPAWN_PROCESS",
}
_CODECS = {
    "opaque": "DITTO_CODEC_OPAQUE",
    "http1": "DITTO_CODEC_HTTP1",
    "resp2": "DITTO_CODEC_RESP2",
    "memcached": "DITTO_CODEC_MEMCACHED",
    "dns": "DITTO_CODEC_DNS",
    "pgsql": "DITTO_CODEC_PGSQL",
    "mysql": "DITTO_CODEC_MYSQL",
}


def fraction(probability: float) -> int:
    """A probability as the runtime's 32-bit fraction."""
    return ALWAYS if probability >= 1 else max(0, int(probability * (1 << 32)))


def cumulative(weights: Sequence[float]) -> list[int]:
    """Weights as cumulative 32-bit fractions; the last is always ALWAYS."""
    total = sum(weights)
    values = [min(ALWAYS, int(part / total * (1 << 32))) for part in accumulate(weights)]
    values[-1] = ALWAYS
    return values


class _Tables:
    """Collects definitions; each method returns the C expression that refers to what it defined."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._dists: dict[tuple[tuple[int, ...], tuple[float, ...]], str] = {}
        self._programs = 0
        self._names = 0

    def dist(self, dist: Dist | None) -> str:
        if dist is None:
            return "NULL"
        key = (tuple(dist.values), tuple(dist.weights))
        if key not in self._dists:
            name = f"dist_{len(self._dists)}"
            self._dists[key] = name
            cum = cumulative(dist.weights)
            self.lines += [
                f"static const uint32_t {name}_value[] = {{{_numbers(dist.values)}}};",
                f"static const uint32_t {name}_cum[] = {{{_numbers(cum)}}};",
                f"static const struct ditto_dist {name} = {{{len(cum)}, {name}_value, {name}_cum}};",
            ]
        return f"&{self._dists[key]}"

    def ops(self, ops: Sequence[Op]) -> str:
        """The name of an array of operations; NULL for none."""
        if not ops:
            return "NULL"
        name = f"ops_{self._programs}"
        self._programs += 1
        rows = [f"\t{{{self._op(op)}}}," for op in ops]
        self.lines += [f"static const struct ditto_op {name}[] = {{", *rows, "};"]
        return name

    def program(self, ops: Sequence[Op]) -> str:
        return f"{{{len(ops)}, {self.ops(ops)}}}"

    def _op(self, op: Op) -> str:
        flags = "DITTO_DEFERRED" if op.deferred else "0"
        return (
            f"OP_{op.kind.value.upper()}, {flags}, {op.nr}, {fraction(op.probability)}u, {_int(op.a)}, {_int(op.b)}, "
            f"{_int(op.c)}, {self.dist(op.size)}, {block(op.block)}"
        )

    def send(self, send: Send | None) -> str:
        """A reference to how a class sends; NULL for as the service does."""
        return "NULL" if send is None else self.array("struct ditto_send", [_send(send)])

    def array(self, type_name: str, rows: Sequence[str]) -> str:
        """The name of an array of structs given as initialisers; NULL for none."""
        if not rows:
            return "NULL"
        name = f"table_{self._names}"
        self._names += 1
        self.lines += [f"static const {type_name} {name}[] = {{", *[f"\t{row}," for row in rows], "};"]
        return name


def block(number: int | None) -> str:
    """The C name of a block, or NULL."""
    return "NULL" if number is None else f"ditto_block_{number}"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(f"{v}u" for v in values)


def _int(value: int) -> str:
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def emit_tables(ir: CloneIR, body: BodyCode) -> str:
    """The text of ``tables.c``."""
    tables = _Tables()
    service = ir.service
    classes = tables.array("struct ditto_class", _classes(tables, service.classes))
    roles = tables.array("struct ditto_role", [_role(tables, i, role) for i, role in enumerate(service.roles)])
    processes = tables.array(
        "struct ditto_process", [_process(tables, i, process) for i, process in enumerate(service.processes)]
    )
    files = tables.array("struct ditto_file_group", [_file_group(tables, group) for group in service.files])
    listener = service.listener
    sockopts = tables.ops(listener.sockopts)
    layout = _layout(tables, body)
    declared = [f"void ditto_block_{i}(struct ditto_body *);" for i in range(len(ir.blocks))]
    receive = service.receive
    main = f"""
const struct ditto_service ditto_service = {{
\t.version = DITTO_TABLES_VERSION,
\t.seed = {ir.seed}u,
\t.print_key = {service.print_key}u,
\t.codec = {_CODECS[service.codec]},
\t.classes = {len(service.classes)},
\t.cls = {classes},
\t.recv = {{{receive.nr}, {receive.bytes}u, {receive.flags}, {int(receive.until_again)}, {int(receive.until_short)},
\t\t {receive.head}u}},
\t.send = {_send(service.send)},
\t.listener = {{{listener.backlog}, {int(listener.nonblocking)}, {int(listener.datagrams)}, {int(listener.reuseport)},
\t\t {listener.accept_nr}, {listener.accept_flags}, {int(listener.accept_until_again)},
\t\t {len(listener.sockopts)}, {sockopts}}},
\t.roles = {len(service.roles)},
\t.role = {roles},
\t.processes = {len(service.processes)},
\t.process = {processes},
\t.file_groups = {len(service.files)},
\t.file_group = {files},
\t.resident_bytes = {touched_bytes(service, body.layout.arena_bytes, ir.knobs.resident_bytes)}u,
\t.stalls = {round(256 * ir.knobs.stalls)}u,
\t.body = {layout},
\t.on_error = NULL,
}};
"""
    head = [
        "/* Made by ditto from a profile.  Numbers only; see runtime/ditto.h for what they mean. */",
        '#include "body.h"',
        '#include "ditto.h"',
        "",
    ]
    return "\n".join([*head, *declared, "", *tables.lines]) + main


def _classes(tables: _Tables, classes: Sequence[RequestClass]) -> list[str]:
    shares = cumulative([max(c.probability, 1e-12) for c in classes])
    rows = []
    for cls, share in zip(classes, shares, strict=True):
        match = cls.match
        verb = f'"{match.verb}"' if match.verb else "NULL"
        replies = tables.array("struct ditto_reply", _replies(tables, cls.replies))
        rows.append(
            f"{{.match = {{{verb}, {match.argc}, {match.path_print}, {match.min_bytes}u, {match.max_bytes}u}}, "
            f".prob = {share}u, .replies = {len(cls.replies)}, .reply = {replies}, "
            f".program = {tables.program(cls.program)}, .request_bytes = {tables.dist(cls.request_bytes)}, "
            f".send = {tables.send(cls.send)}, .closes = {_chance(cls.closes)}u}}"
        )
    return rows


def _chance(probability: float) -> int:
    return round(probability * 0xFFFFFFFF)


def _send(send: Send) -> str:
    return (
        f"{{{send.nr}, {send.flags}, {send.call_bytes}u, {send.iovs}, {send.iov_bytes}u, {send.calls_per_wake}, "
        f"{int(send.per_read)}, {int(send.arm)}, {block(send.between_block)}}}"
    )


def _replies(tables: _Tables, replies: Sequence[ReplyShape]) -> list[str]:
    cum = cumulative([max(r.probability, 1e-12) for r in replies])
    return [
        f"{{{part}u, REPLY_{reply.kind.upper()}, {reply.status}, {reply.head_bytes}u, {tables.dist(reply.count)}, "
        f"{tables.dist(reply.size)}, {tables.dist(reply.second)}, {len(reply.columns)}, {_columns(tables, reply)}}}"
        for reply, part in zip(replies, cum, strict=True)
    ]


def _columns(tables: _Tables, reply: ReplyShape) -> str:
    return tables.array(
        "struct ditto_column",
        [
            f"{{{c.name_bytes}, {int(c.binary)}, {c.type_id}u, {c.flags}u, {c.type_bytes}, {fraction(c.none)}u, "
            f"{tables.dist(c.size)}}}"
            for c in reply.columns
        ],
    )


def _role(tables: _Tables, index: int, role: Role) -> str:
    timers = tables.array("struct ditto_timer", [_timer(tables, timer) for timer in role.timers])
    return (
        f'{{.name = "r{index}", .kind = DITTO_ROLE_{role.kind.upper()}, .wait = {_WAITS[role.wait]}, '
        f".wait_nr = {role.wait_nr}, .count = {role.count}, .max_events = {role.max_events}, "
        f".timeout_ms = {role.timeout_ms}, .listens = {int(role.listens)}, .listen_events = {role.listen_events}u, "
        f".handover = {_HANDOVERS[role.handover]}, .hand_to = {role.hand_to}, .notify_nr = {role.notify_nr}, "
        f".deferred_lifo = {int(role.deferred_lifo)}, .deferred_late = {int(role.deferred_late)}, "
        f".on_wake = {block(role.on_wake_block)}, "
        f".before_wait = {block(role.before_wait_block)}, .on_accept = {tables.program(role.on_accept)}, "
        f".on_adopt = {tables.program(role.on_adopt)}, .on_close = {tables.program(role.on_close)}, "
        f".timers = {len(role.timers)}, .timer = {timers}{_serial(tables, role)}}}"
    )


def _serial(tables: _Tables, role: Role) -> str:
    """What only threads have that serve one connection at a time, or share their connections."""
    if role.kind in ("shared", "dispatch"):
        return (
            f", .polls = {int(role.polls)}, .polls_first = {int(role.polls_first)}, "
            f".unwatches = {int(role.unwatches)}, .running = {role.running}, "
            f".wakes = {round(role.wakes * 65536)}u, .on_unpark = {block(role.on_unpark_block)}"
        )
    if role.kind not in ("accept_serve", "serve"):
        return ""
    wait = _WAITS[role.listen_wait]
    return (
        f", .listen_wait = {wait}, .accept_first = {int(role.accept_first)}, "
        f".receive_first = {int(role.receive_first)}, .before_accept = {tables.program(role.before_accept)}"
    )


def _timer(tables: _Tables, timer: Timer) -> str:
    return f"{{{int(timer.period_ms * 1e6)}u, {timer.requests}u, {tables.program(timer.program)}}}"


def _process(tables: _Tables, index: int, process: Process) -> str:
    roles = tables.array("uint16_t", [str(r) for r in process.roles])
    opens = tables.array(
        "struct ditto_open_at_start", [f"{{{o.group}, {o.slot}, {_int(o.flags)}}}" for o in process.open_at_start]
    )
    return (
        f'{{.name = "p{index}", .parent = {process.parent}, .count = {process.count}, .roles = {len(process.roles)}, '
        f".role = {roles}, .opens = {len(process.open_at_start)}, .open_at_start = {opens}}}"
    )


def _file_group(tables: _Tables, group: FileGroup) -> str:
    kind = "DITTO_FILE_" + group.kind.upper()
    return f"{{{kind}, {group.depth}, {int(group.append)}, {group.count}u, {tables.dist(group.size)}}}"


def _layout(tables: _Tables, body: BodyCode) -> str:
    layout = body.layout
    pools = tables.array(
        "struct ditto_body_pool",
        [f"{{{p.offset}u, {p.lines}u, {p.step}u, {int(p.permuted)}, {int(p.shared)}}}" for p in layout.pools],
    )
    cursors = tables.array("uint32_t", [f"{pool}u" for pool in layout.cursors])
    return "&" + _single(
        tables,
        "struct ditto_body_layout",
        f"{{{layout.arena_bytes}u, {len(layout.pools)}, {pools}, {len(layout.cursors)}, {cursors}}}",
    )


def _single(tables: _Tables, type_name: str, row: str) -> str:
    name = "body_layout"
    tables.lines.append(f"static const {type_name} {name} = {row};")
    return name
