"""What the emitters of tables share: const definitions, each written once, and the C expressions that refer to them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ditto.artifacts.profile import Dist, Op, OpKind, ReplyShape, Send

ALWAYS = 0xFFFFFFFF

CODECS = {
    "opaque": "DITTO_CODEC_OPAQUE",
    "http1": "DITTO_CODEC_HTTP1",
    "resp2": "DITTO_CODEC_RESP2",
    "memcached": "DITTO_CODEC_MEMCACHED",
    "dns": "DITTO_CODEC_DNS",
    "fastcgi": "DITTO_CODEC_FASTCGI",
    "pgsql": "DITTO_CODEC_PGSQL",
    "mysql": "DITTO_CODEC_MYSQL",
    "h2": "DITTO_CODEC_H2",
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


class Tables:
    """Collects definitions; each method returns the C expression that refers to what it defined."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._dists: dict[tuple[tuple[int, ...], tuple[float, ...]], str] = {}
        self._texts: dict[bytes, str] = {}
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

    def ops(self, ops: Sequence[Op], awaits_sync: float = 0.0) -> str:
        """The name of an array of operations; NULL for none.

        Where some await the sync of another, all ask for it, and it turns out in the clone who makes it.
        """
        if not ops:
            return "NULL"
        name = f"ops_{self._programs}"
        self._programs += 1
        first = next((n for n, op in enumerate(ops) if op.start is not None and not op.draw), None)
        logs = [awaits_sync > 0.0 and op.start is not None and op.kind in LOG_KINDS for op in ops]
        made = max(((op.start or 0.0) + op.probability for op, log in zip(ops, logs, strict=True) if log), default=1.0)
        rows = [
            f"\t{{{self._op(_asking(op, 1.0 + awaits_sync / made) if log else op, number == first, log)}}},"
            for number, (op, log) in enumerate(zip(ops, logs, strict=True))
        ]
        self.lines += [f"static const struct ditto_op {name}[] = {{", *rows, "};"]
        return name

    def program(self, ops: Sequence[Op], awaits_sync: float = 0.0) -> str:
        return f"{{{len(ops)}, {self.ops(ops, awaits_sync)}}}"

    def _op(self, op: Op, draws: bool, log: bool) -> str:
        """The initialiser of an operation.

        ``draws``: it is the program's first of those that share a draw; ``log``: these are made for several requests.
        """
        flags = "DITTO_DEFERRED" if op.deferred else "0"
        if op.start is not None and not op.draw:
            flags += " | DITTO_DRAWS" if draws else " | DITTO_DRAWN"
        if log:
            flags += " | DITTO_LOG"
        if op.even:
            flags += " | DITTO_EVEN"
        if op.link is not None:
            flags += f" | DITTO_LINK({op.link + 1})"
        return (
            f"OP_{op.kind.value.upper()}, {flags}, {op.nr}, {fraction(op.probability)}u, {integer(op.a)}, "
            f"{integer(op.b)}, {integer(op.c)}, {self.dist(op.size)}, {block(op.block)}, {self.dist(op.where)}, "
            f"{fraction(op.start or 0.0)}u, {op.draw}u"
        )

    def send(self, send: Send | None) -> str:
        """A reference to how a class sends; NULL for as the service does."""
        return "NULL" if send is None else self.array("struct ditto_send", [self.send_row(send)])

    def send_row(self, send: Send) -> str:
        """The initialiser of a ``struct ditto_send``."""
        parts = self.array("uint32_t", [f"{part}u" for part in send.parts])
        return (
            f"{{{send.nr}, {send.flags}, {send.call_bytes}u, {send.iovs}, {send.iov_bytes}u, {send.calls_per_wake}, "
            f"{int(send.per_read)}, {int(send.arm)}, {block(send.between_block)}, {len(send.parts)}, {parts}}}"
        )

    def text(self, data: bytes) -> str:
        """A reference to constant bytes."""
        if data not in self._texts:
            self._texts[data] = f"text_{len(self._texts)}"
            rows = [", ".join(map(str, data[i : i + 24])) for i in range(0, len(data), 24)]
            body = ",\n\t".join(rows)
            self.lines.append(f"static const uint8_t {self._texts[data]}[] = {{\n\t{body}}};")
        return self._texts[data]

    def array(self, type_name: str, rows: Sequence[str]) -> str:
        """The name of an array of structs given as initialisers; NULL for none."""
        if not rows:
            return "NULL"
        name = f"table_{self._names}"
        self._names += 1
        self.lines += [f"static const {type_name} {name}[] = {{", *[f"\t{row}," for row in rows], "};"]
        return name


LOG_KINDS = frozenset({OpKind.FILE_WRITE, OpKind.FILE_SYNC})
"""Operations of those that share a draw that one request makes for several."""


def _asking(op: Op, scale: float) -> Op:
    """An operation of those that share a draw, of ``scale`` times as many requests."""
    start = min(1.0, (op.start or 0.0) * scale)
    return op.model_copy(update={"start": start, "probability": min(1.0 - start, op.probability * scale)})


def block(number: int | None) -> str:
    """The C name of a block, or NULL."""
    return "NULL" if number is None else f"ditto_block_{number}"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(f"{v}u" for v in values)


def integer(value: int) -> str:
    """A C int."""
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def chance(probability: float) -> int:
    """A probability as a fraction of 2^32 - 1."""
    return round(probability * 0xFFFFFFFF)


def reply_rows(tables: Tables, replies: Sequence[ReplyShape]) -> list[str]:
    """The initialisers of ``struct ditto_reply``, with cumulative shares."""
    cum = cumulative([max(r.probability, 1e-12) for r in replies])
    return [
        f"{{{part}u, REPLY_{reply.kind.upper()}, {reply.status}, {reply.head_bytes}u, {tables.dist(reply.count)}, "
        f"{tables.dist(reply.size)}, {tables.dist(reply.second)}, {len(reply.columns)}, {_columns(tables, reply)}, "
        f"{int(reply.columns_known)}}}"
        for reply, part in zip(replies, cum, strict=True)
    ]


def _columns(tables: Tables, reply: ReplyShape) -> str:
    return tables.array(
        "struct ditto_column",
        [
            f"{{{c.name_bytes}, {int(c.binary)}, {c.type_id}u, {c.flags}u, {c.type_bytes}, {fraction(c.none)}u, "
            f"{tables.dist(c.size)}}}"
            for c in reply.columns
        ],
    )
