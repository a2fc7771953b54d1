"""Emitter: the IR as ``tables.c``, const data for the runtime (``native/runtime/ditto.h``)."""

from __future__ import annotations

from collections.abc import Sequence

from ditto.artifacts.profile import FileGroup, Process, RequestClass, Role, Timer
from ditto.generate.body import BodyCode
from ditto.generate.body.isa import SHARED_LINES
from ditto.generate.calls import downstream_rows
from ditto.generate.ir import CloneIR
from ditto.generate.memory import file_bytes, touched_bytes
from ditto.generate.writer import CODECS, Tables, block, chance, cumulative, integer, reply_rows

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
    "pass": "DITTO_HAND_PASS",
    "pool": "DITTO_HAND_POOL",
    "cached": "DITTO_HAND_CACHED",
}
FOLLOWS = 256
"""What the runtime counts a whole power as."""


def emit_tables(ir: CloneIR, body: BodyCode) -> str:
    """The text of ``tables.c``."""
    tables = Tables()
    service = ir.service
    classes = tables.array("struct ditto_class", _classes(tables, service.classes))
    roles = tables.array("struct ditto_role", [_role(tables, i, role) for i, role in enumerate(service.roles)])
    processes = tables.array(
        "struct ditto_process", [_process(tables, i, process) for i, process in enumerate(service.processes)]
    )
    files = tables.array("struct ditto_file_group", [_file_group(tables, group) for group in service.files])
    listener = service.listener
    sockopts = tables.ops(listener.sockopts)
    send = tables.send_row(service.send)
    layout = _layout(tables, body)
    downstreams = tables.array("struct ditto_downstream", downstream_rows(tables, service.downstreams, ir.seed))
    declared = [f"void ditto_block_{i}(struct ditto_body *);" for i in range(len(ir.blocks))]
    receive = service.receive
    touched = touched_bytes(service, body.layout.arena_bytes, body.layout.shared_bytes, ir.knobs.resident_bytes)
    main = f"""
const struct ditto_service ditto_service = {{
\t.version = DITTO_TABLES_VERSION,
\t.seed = {ir.seed}u,
\t.print_key = {service.print_key}u,
\t.folds = {int(service.folds)},
\t.starts_empty = {int(service.starts_empty)},
\t.codec = {CODECS[service.codec]},
\t.classes = {len(service.classes)},
\t.cls = {classes},
\t.recv = {{{receive.nr}, {receive.bytes}u, {receive.flags}, {int(receive.until_again)}, {int(receive.until_short)},
\t\t {receive.head}u, {receive.second}u, {receive.rest}u, {receive.batch}, {receive.enough}, {int(receive.lines)}}},
\t.send = {send},
\t.listener = {{{listener.backlog}, {int(listener.nonblocking)}, {int(listener.datagrams)}, {int(listener.reuseport)},
\t\t {listener.accept_nr}, {listener.accept_flags}, {int(listener.accept_until_again)},
\t\t {int(listener.answers_last)}, {int(listener.rewatches)},
\t\t {len(listener.sockopts)}, {sockopts}}},
\t.roles = {len(service.roles)},
\t.role = {roles},
\t.processes = {len(service.processes)},
\t.process = {processes},
\t.file_groups = {len(service.files)},
\t.file_group = {files},
\t.resident_bytes = {touched}u,
\t.file_bytes = {file_bytes(service, touched)}u,
\t.stalls = {round(256 * ir.knobs.stalls)}u,
\t.stalls_in_store = {int(ir.knobs.stalls_in_store)},
\t.stalls_computed = {int(ir.knobs.stalls_computed)},
\t.born_pages = {ir.knobs.born_pages}u,
\t.stored_scale = {round(256 * service.stored_scale)}u,
\t.fresh_pages = {round(65536 * ir.knobs.fresh_pages)}u,
\t.body = {layout},
\t.on_error = NULL,
\t.downstreams = {len(service.downstreams)},
\t.downstream = {downstreams},
}};
"""
    head = [
        "/* Made by ditto from a profile.  Numbers only; see runtime/ditto.h for what they mean. */",
        '#include "body.h"',
        '#include "ditto.h"',
        "",
    ]
    return "\n".join([*head, *declared, "", *tables.lines]) + main


def _classes(tables: Tables, classes: Sequence[RequestClass]) -> list[str]:
    shares = cumulative([max(c.probability, 1e-12) for c in classes])
    rows = []
    for cls, share in zip(classes, shares, strict=True):
        match = cls.match
        verb = f'"{match.verb}"' if match.verb else "NULL"
        replies = tables.array("struct ditto_reply", reply_rows(tables, cls.replies))
        program = tables.program(cls.program, cls.awaits_sync)
        rows.append(
            f"{{.match = {{{verb}, {match.argc}, {match.path_print}, {match.min_bytes}u, {match.max_bytes}u}}, "
            f".prob = {share}u, .replies = {len(cls.replies)}, .reply = {replies}, "
            f".program = {program}, .request_bytes = {tables.dist(cls.request_bytes)}, "
            f".send = {tables.send(cls.send)}, .closes = {chance(cls.closes)}u, "
            f".rounds = {cls.rounds}, .reply_draw = {cls.reply_draw}u}}"
        )
    return rows


def _role(tables: Tables, index: int, role: Role) -> str:
    timers = tables.array("struct ditto_timer", [_timer(tables, timer) for timer in role.timers])
    return (
        f'{{.name = "r{index}", .kind = DITTO_ROLE_{role.kind.upper()}, .wait = {_WAITS[role.wait]}, '
        f".wait_nr = {role.wait_nr}, .count = {role.count}, .leads_session = {int(role.leads_session)}, "
        f".max_events = {role.max_events}, "
        f".timeout_ms = {role.timeout_ms}, .listens = {int(role.listens)}, .listen_events = {role.listen_events}u, "
        f".relisten = {role.relisten}, "
        f".handover = {_HANDOVERS[role.handover]}, .hand_to = {role.hand_to}, .notify_nr = {role.notify_nr}, "
        f".inbox = {_inbox(role)}, .passage = {_passage(role)}, "
        f".deferred_lifo = {int(role.deferred_lifo)}, .deferred_late = {int(role.deferred_late)}, "
        f".each_wake = {tables.program(role.each_wake)}, .each_wait = {tables.program(role.each_wait)}, "
        f".each_batch = {tables.program(role.each_batch)}, "
        f".on_wake = {block(role.on_wake_block)}, "
        f".before_wait = {block(role.before_wait_block)}, .on_accept = {tables.program(role.on_accept)}, "
        f".on_adopt = {tables.program(role.on_adopt)}, .on_close = {tables.program(role.on_close)}, "
        f".timers = {len(role.timers)}, .timer = {timers}{_serial(tables, role)}}}"
    )


def _inbox(role: Role) -> str:
    inbox = role.inbox
    if inbox is None:
        return "{0}"
    return f"{{{inbox.nr}, {inbox.read_nr}, {inbox.bytes}u, {inbox.each}u, {int(inbox.again)}, {int(inbox.own)}}}"


def _passage(role: Role) -> str:
    passage = role.passage
    if passage is None:
        return "{0}"
    return f"{{{passage.bytes}u, {passage.flags}, {int(passage.own)}, {int(passage.again)}}}"


def _serial(tables: Tables, role: Role) -> str:
    """What only threads have that serve one connection at a time, or share their connections."""
    if role.kind in ("shared", "dispatch"):
        return (
            f", .polls = {int(role.polls)}, .crowd = {int(role.crowd)}, .polls_first = {int(role.polls_first)}, "
            f".unwatches = {int(role.unwatches)}, .mutes = {int(role.mutes)}, .running = {role.running}, "
            f".asks_nr = {role.asks_nr}, .lingers = {round(role.lingers * 65536)}u, "
            f".wakes = {round(role.wakes * 65536)}u, .on_unpark = {block(role.on_unpark_block)}, "
            f".listen_wait = {_WAITS[role.listen_wait]}, .accept_first = {int(role.accept_first)}"
        )
    if role.kind not in ("accept_serve", "serve"):
        return ""
    wait = _WAITS[role.listen_wait]
    return (
        f", .listen_wait = {wait}, .accept_first = {int(role.accept_first)}, "
        f".receive_first = {int(role.receive_first)}, .waits_once = {int(role.waits_once)}, "
        f".before_accept = {tables.program(role.before_accept)}"
    )


def _timer(tables: Tables, timer: Timer) -> str:
    program, follows = tables.program(timer.program), round(timer.follows * FOLLOWS)
    told = int(timer.descriptor)
    return f"{{{int(timer.period_ms * 1e6)}u, {timer.requests}u, {follows}u, {program}, {told}, {timer.times}u}}"


def _process(tables: Tables, index: int, process: Process) -> str:
    roles = tables.array("uint16_t", [str(r) for r in process.roles])
    opens = tables.array(
        "struct ditto_open_at_start", [f"{{{o.group}, {o.slot}, {integer(o.flags)}}}" for o in process.open_at_start]
    )
    return (
        f'{{.name = "p{index}", .parent = {process.parent}, .count = {process.count}, .roles = {len(process.roles)}, '
        f".role = {roles}, .opens = {len(process.open_at_start)}, .open_at_start = {opens}}}"
    )


def _file_group(tables: Tables, group: FileGroup) -> str:
    kind = "DITTO_FILE_" + group.kind.upper()
    return f"{{{kind}, {group.depth}, {int(group.append)}, {group.count}u, {tables.dist(group.size)}}}"


def _layout(tables: Tables, body: BodyCode) -> str:
    layout = body.layout
    pools = tables.array(
        "struct ditto_body_pool",
        [f"{{{p.offset}u, {p.lines}u, {p.step}u, {int(p.permuted)}, {int(p.shared)}}}" for p in layout.pools],
    )
    cursors = tables.array("uint32_t", [f"{pool}u" for pool in layout.cursors])
    shared = "NULL"
    if layout.shared_bytes:
        tables.lines.append(f"extern uint8_t {SHARED_LINES}[];")
        shared = SHARED_LINES
    return "&" + _single(
        tables,
        "struct ditto_body_layout",
        f"{{{layout.arena_bytes}u, {len(layout.pools)}, {pools}, {len(layout.cursors)}, {cursors}, "
        f"{layout.shared_bytes}u, {shared}}}",
    )


def _single(tables: Tables, type_name: str, row: str) -> str:
    name = "body_layout"
    tables.lines.append(f"static const {type_name} {name} = {row};")
    return name
