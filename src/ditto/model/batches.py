"""What an event loop does once for all requests of a wake-up: a log that is written before their replies leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ditto.artifacts.profile import Op, OpKind, RequestClass, Role
from ditto.model.classes import Placement
from ditto.model.distributions import constant
from ditto.model.roles import RoleSeen
from ditto.streams.cycles import Cycle, Wake
from ditto.streams.events import SENDS, Event, Obj
from ditto.streams.programs import FILE_SYNCS, FILE_WRITES

FEWEST = 30
"""Wake-ups of several requests from which on it is told whether something is done once for all of them."""
STRAY = 0.05
"""Share of the calls that may have come elsewhere."""
_ROUNDS = 30

Kind = tuple[int, Obj]


@dataclass(frozen=True)
class Batch:
    """Calls that are made once for a wake-up, after its last receive, if one of its requests asks for them.

    Attributes:
        kinds: numbers of the calls and the files that they are for, in order, with the share of batches that make each.
        asks: by class, the share of requests that ask.
        bytes: by class, bytes that a request adds to what is written where it asks.
    """

    kinds: tuple[tuple[Kind, float], ...]
    asks: Mapping[bytes, float]
    bytes: Mapping[bytes, float]


def find_batch(wakes: Iterable[Wake], classes: Mapping[bytes, Sequence[Cycle]]) -> Batch | None:
    """What the wake-ups of event loops have done once each, None for nothing.

    Args:
        wakes: of threads that answer at the end of a wake-up.
        classes: their requests by class.
    """
    key_of = {id(cycle): key for key, cycles in classes.items() for cycle in cycles}
    known = [wake for wake in wakes if wake.received and all(id(cycle) in key_of for cycle in wake.received)]
    several = [wake for wake in known if len(wake.received) > 1]
    last, elsewhere = Counter[Kind](), Counter[Kind]()
    places: dict[Kind, int] = {}
    for wake in several:
        for number, cycle in enumerate(wake.received):
            at_end = number == len(wake.received) - 1
            found = _made(cycle, wake)
            once = Counter(_kind(event) for event in found)
            for place, event in enumerate(found):
                kind = _kind(event)
                places.setdefault(kind, place)
                alone = at_end and once[kind] == 1 and event.index < _first_send(wake)
                (last if alone else elsewhere)[kind] += 1
    kinds = [kind for kind, count in last.items() if count >= FEWEST and elsewhere[kind] <= STRAY * count]
    if not kinds:
        return None
    kinds.sort(key=lambda kind: (-last[kind], places[kind]))
    wanted = set(kinds)
    made = [any(_kind(e) == kinds[0] for e in _made(wake.received[-1], wake)) for wake in known]
    written = [sum(e.ret for e in _made(wake.received[-1], wake) if e.nr in FILE_WRITES and _kind(e) in wanted)
               for wake in known]  # fmt: skip
    keys = sorted(classes)
    counts = np.zeros((len(known), len(keys)))
    column = {key: number for number, key in enumerate(keys)}
    for row, wake in enumerate(known):
        for cycle in wake.received:
            counts[row, column[key_of[id(cycle)]]] += 1
    asks = _asking(counts, np.array(made, dtype=bool))
    each = np.linalg.lstsq(counts * asks, np.array(written, dtype=float), rcond=None)[0]
    shares = tuple((kind, min(1.0, last[kind] / last[kinds[0]])) for kind in kinds)
    return Batch(shares, dict(zip(keys, asks.tolist(), strict=True)), dict(zip(keys, each.tolist(), strict=True)))


def _asking(counts: np.ndarray, made: np.ndarray) -> np.ndarray:
    """The share of each class's requests that ask, as most likely brought about what was made."""
    total = np.maximum(counts.sum(axis=0), 1.0)
    asks = np.full(counts.shape[1], 0.5)
    for _ in range(_ROUNDS):
        none = np.exp(counts @ np.log(np.maximum(1.0 - asks, 1e-12)))
        due = counts[made] / np.maximum(1.0 - none[made], 1e-12)[:, None]
        asks = np.clip(asks * due.sum(axis=0) / total, 0.0, 1.0)
    return np.where(asks > 0.99, 1.0, np.where(asks < 0.01, 0.0, asks))


def _made(cycle: Cycle, wake: Wake) -> list[Event]:
    return [
        event
        for event, where in zip(cycle.events, cycle.wake_of, strict=True)
        if where is wake
        and event.obj is not None
        and event.obj.kind == "file"
        and (event.nr in FILE_WRITES or event.nr in FILE_SYNCS)
    ]


def _kind(event: Event) -> Kind:
    assert event.obj is not None
    return event.nr, event.obj


def _first_send(wake: Wake) -> float:
    sends = (
        event.index
        for cycle in wake.received
        for event, where in zip(cycle.events, cycle.wake_of, strict=True)
        if where is wake and event.nr in SENDS and event.obj is cycle.connection
    )
    return min(sends, default=float("inf"))


def batch_program(batch: Batch, placement: Placement) -> list[Op]:
    """The program of a batch; what it writes has the bytes that its requests added."""
    program = []
    for (nr, obj), share in batch.kinds:
        kind = OpKind.FILE_WRITE if nr in FILE_WRITES else OpKind.FILE_SYNC
        program.append(Op(kind=kind, nr=nr, probability=share, b=placement.slot_of(("p", obj.path))))
    return program


def with_batch(cls: RequestClass, key: bytes, batch: Batch, program: Sequence[Op]) -> RequestClass:
    """A class that asks for the batch in place of doing, by chance, what is in its program."""
    batched = {(op.kind, op.nr, op.b) for op in program}
    left = [op for op in cls.program if (op.kind, op.nr, op.b) not in batched]
    if batch.asks[key] > 0:
        size = constant(max(0, round(batch.bytes[key])))
        at = next((number for number, op in enumerate(left) if op.deferred), len(left))
        left.insert(at, Op(kind=OpKind.BATCH, probability=batch.asks[key], size=size))
    return cls.model_copy(update={"program": left})


def with_batches(
    seen: Sequence[RoleSeen],
    requests: Mapping[bytes, Sequence[Cycle]],
    classes: Sequence[RequestClass],
    roles: Sequence[Role],
    placement: Placement,
) -> tuple[list[RequestClass], list[Role]]:
    """Classes and roles with what event loops do once for all requests of a wake-up.

    Args:
        seen: the roles' threads; loops answer at the end of each wake-up.
        requests: by class, in the order of ``classes``.
        classes, roles: as fitted without.
        placement: where files are.
    """
    loops = [role for role in seen if role.kind == "loop" and role.serves]
    batch = find_batch((wake for role in loops for thread in role.work for wake in thread.wakes), requests)
    if batch is None:
        return list(classes), list(roles)
    program = batch_program(batch, placement)
    return (
        [with_batch(cls, key, batch, program) for cls, key in zip(classes, requests, strict=True)],
        [role.model_copy(update={"each_batch": program}) if role.kind == "loop" else role for role in roles],
    )
