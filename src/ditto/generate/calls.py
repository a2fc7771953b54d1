"""Tables of the services that a clone calls: its requests to them, made ahead, and what stands in for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ditto.artifacts.plan import StepFlags
from ditto.artifacts.profile import CallClass, CallPart, Dist, Downstream, Receive
from ditto.generate.writer import CODECS, Tables, chance, cumulative, reply_rows
from ditto.host.synthetic import sample_requests

VARIANTS = 32
"""Requests that are made of each class: enough for its sizes, and for as many keys."""
LARGEST = 1 << 20
ALL_BYTES = 4 << 20
"""Of the requests of one downstream together; there are fewer of each class where they are large."""
OWN_US = 50
"""What a reply of a stand-in takes without any delay: it is taken off the delays that were observed."""


def downstream_rows(tables: Tables, downstreams: Sequence[Downstream], seed: int) -> list[str]:
    """The initialisers of ``struct ditto_downstream``, one a downstream."""
    return [_row(tables, downstream, seed) for downstream in downstreams]


def _row(tables: Tables, downstream: Downstream, seed: int) -> str:
    calls = tables.array("struct ditto_call_class", _calls(tables, downstream))
    further = tables.array("struct ditto_recv", [_receive(receive) for receive in downstream.further])
    return (
        f"{{.pool = DITTO_POOL_{downstream.pool.upper()}, .blocking = {int(downstream.blocking)}, "
        f".recv = {_receive(downstream.receive)}, "
        f".further = {further}, .furthers = {len(downstream.further)}, "
        f".connect = {tables.program(downstream.connect)}, .call = {calls}, "
        f".service = {_stand_in(tables, downstream, seed)}}}"
    )


def _receive(receive: Receive) -> str:
    return f"{{.nr = {receive.nr}, .bytes = {receive.bytes}u, .flags = {receive.flags}}}"


def _stand_in(tables: Tables, downstream: Downstream, seed: int) -> str:
    """A service that has nothing but what a codec needs of one."""
    together = _together(downstream)
    shares = cumulative([max(cls.probability, 1e-12) for cls in downstream.classes] + [1e-12] * len(together))
    parts: list[tuple[CallClass | CallPart, float]] = [(cls, cls.closes) for cls in downstream.classes]
    parts += [(part, 0.0) for part in together]
    rows = []
    for (part, closes), share in zip(parts, shares, strict=True):
        match = part.match
        verb = f'"{match.verb}"' if match.verb else "NULL"
        replies = tables.array("struct ditto_reply", reply_rows(tables, part.replies))
        rows.append(
            f"{{.match = {{{verb}, {match.argc}, {match.path_print}, {match.min_bytes}u, {match.max_bytes}u}}, "
            f".prob = {share}u, .replies = {len(part.replies)}, .reply = {replies}, .closes = {chance(closes)}u}}"
        )
    classes = tables.array("struct ditto_class", rows)
    row = (
        f"{{.version = DITTO_TABLES_VERSION, .seed = {seed}u, .print_key = {downstream.print_key}u, "
        f".codec = {CODECS[downstream.codec]}, .classes = {len(rows)}, .cls = {classes}}}"
    )
    return tables.array("struct ditto_service", [row])


def _together(downstream: Downstream) -> list[CallPart]:
    """Requests that are only sent together with others: a stand-in knows them by classes after the others."""
    known = {cls.match.verb for cls in downstream.classes}
    parts = {part.match.verb: part for cls in downstream.classes for part in cls.more if part.match.verb not in known}
    return [part for _, part in sorted(parts.items())]


def _calls(tables: Tables, downstream: Downstream) -> list[str]:
    sizes = [_sizes(cls.request_bytes, downstream) for cls in downstream.classes]
    made = sample_requests(downstream.codec, downstream.print_key, downstream.classes, sizes)
    rows = []
    for cls, steps in zip(downstream.classes, made, strict=True):
        whole = [step.request + _more(downstream, cls, number) for number, step in enumerate(steps)]
        requests = tables.array(
            "struct ditto_request",
            [_request(tables, text, step.flags, 1 + len(cls.more)) for text, step in zip(whole, steps, strict=True)],
        )
        rows.append(f"{{{len(steps)}, {requests}, {tables.dist(_delays(cls))}}}")
    return rows + ["{0, NULL, NULL}"] * len(_together(downstream))


def _more(downstream: Downstream, cls: CallClass, number: int) -> bytes:
    """The requests that are sent together with one, as one text; ``number`` tells that of others of its class."""
    sizes = [_sizes(part.request_bytes, downstream) for part in cls.more]
    wanted = [[of[number % len(of)]] for of in sizes]
    made = sample_requests(downstream.codec, downstream.print_key, cls.more, wanted)
    return b"".join(steps[0].request for steps in made)


def _sizes(dist: Dist, downstream: Downstream) -> list[int]:
    """Values in equal shares of a distribution."""
    wanted = [min(value, LARGEST) for value in dist.values]
    mean = sum(v * w for v, w in zip(wanted, dist.weights, strict=True)) / sum(dist.weights)
    room = ALL_BYTES / len(downstream.classes) / max(1.0, mean)
    one = len(wanted) == 1 and downstream.codec in ("http1", "fastcgi", "opaque", "pgsql", "mysql", "h2")
    number = 1 if one else max(1, min(VARIANTS, int(room)))
    ends = list(accumulate(dist.weights))
    places = [(i + 0.5) / number * ends[-1] for i in range(number)]
    return [next((v for v, end in zip(wanted, ends, strict=True) if place <= end), wanted[-1]) for place in places]


def _request(tables: Tables, request: bytes, flags: StepFlags, replies: int) -> str:
    return f"{{{len(request)}u, {tables.text(request)}, {int(bool(flags & StepFlags.NOBODY))}, {replies}}}"


def _delays(cls: CallClass) -> Dist | None:
    if cls.delay_us is None or max(cls.delay_us.values) <= OWN_US:
        return None
    return cls.delay_us.model_copy(update={"values": [max(0, value - OWN_US) for value in cls.delay_us.values]})


def describe(downstreams: Sequence[Downstream]) -> list[str]:
    """The same as lines of text."""
    lines = []
    for number, downstream in enumerate(downstreams):
        lines.append(
            f"downstream {number} codec={downstream.codec} pool={downstream.pool} blocking={int(downstream.blocking)}"
        )
        for cls in downstream.classes:
            delay = f"{cls.delay_us.mean:.0f}us" if cls.delay_us else "-"
            lines.append(
                f"  call p={cls.probability:.4f} verb={cls.match.verb or '-'} print={cls.match.path_print} "
                f"bytes={cls.request_bytes.mean:.1f} delay={delay}{_words(cls)}"
            )
    return lines


def _words(cls: CallClass) -> str:
    """Of a class of requests that are sent together, the others."""
    return f" with={','.join(part.match.verb or '-' for part in cls.more)}" if cls.more else ""
