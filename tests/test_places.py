"""Where generated code lies: lines of several slots, gaps, and the sets of a cache."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import ditto.generate.body.emit as _  # the package gives the function of that name
from ditto.artifacts.lens import BLOCK, EXEC
from ditto.artifacts.profile import Knobs
from ditto.artifacts.work import Block
from ditto.generate.body.forest import grow
from ditto.generate.body.place import Gaps, Placed, place, spaced
from ditto.generate.body.plan import ADJACENT, CALL, FALL, ICALL, IJUMP, JUMP, RET, Planner, Slot
from ditto.generate.body.render import SlotCode
from ditto.generate.body.sets import Sets, code_misses
from ditto.generate.body.target import make
from ditto.streams.instructions import InstructionRun
from ditto.tune.code_sets import code_sets
from test_body import request

emit = sys.modules["ditto.generate.body.emit"]
del _

sys.path.insert(0, str(Path(__file__).parent / "body"))

from build_body import build, trace  # noqa: E402

RUNTIME = Path(__file__).parents[1] / "native" / "runtime"


def chain(*transfers: str) -> list[Slot]:
    """Slots of 20 bytes each in a row, every second sharing a line that is there already."""
    slots = [Slot(n, 1, transfer=t, to=n + 1, opens=n % 2 == 0) for n, t in enumerate(transfers)]
    slots[0].first, slots[-1].last = True, True
    for slot in slots[:-1]:
        if slot.transfer == FALL:
            slots[slot.to].landing = True
        if slot.transfer == RET:
            slots[slot.to].landing = True
    return slots


def laid(slots: list[Slot], near: tuple[float, ...] = (0.0, 9.0, 9.0)) -> Placed:
    return place(slots, [SlotCode(size=20) for _ in slots], near, Random(1))


def apart(placed: Placed) -> bool:
    places = sorted((placed.start[n], placed.start[n] + 20) for n in placed.order)
    return len(places) == len(placed.start) and all(a[1] <= b[0] for a, b in pairwise(places))


def test_slots_share_lines_where_touches_are_to_be_near() -> None:
    slots = chain(*[JUMP] * 11, RET)
    placed = laid(slots)
    assert apart(placed) and placed.order[0] == 0
    assert len({start // 64 for start in placed.start}) == sum(slot.opens for slot in slots)
    for slot in slots:
        slot.opens = True
    assert len({start // 64 for start in laid(slots).start}) == len(slots)


def test_what_is_fallen_into_lies_behind_a_line_and_what_is_returned_to_may_lie_behind_its_call() -> None:
    slots = chain(JUMP, JUMP, FALL, JUMP, FALL, JUMP, CALL, RET, JUMP, RET)
    slots[8].landing = True
    slots[8].opens = False
    placed = laid(slots)
    assert apart(placed)
    for number in (2, 4):
        assert placed.start[number] + 20 == placed.start[number + 1]
        assert placed.start[number + 1] % 64 == 0
    assert placed.start[6] + 20 == placed.start[8]


def test_what_is_landed_on_is_left_by_a_jump() -> None:
    """Else it would have to fill its line, and no lines would be shared in all of the block."""
    target = make(0, request(), Knobs(), 9, 9)
    assert target is not None
    for seed in range(30):
        slots = emit._build(target, [], 0.0, Random(seed)).filled.slots
        assert not [slot.number for slot in slots if slot.landing and slot.transfer in ADJACENT]


def test_gaps_keep_what_belongs_together() -> None:
    placed = laid(chain(*[FALL, JUMP] * 8, RET), near=(0.0,))
    wide = spaced(placed, Gaps(8, 3), 5, [0] * 64, Random(2))
    assert apart(wide) and wide.bytes > placed.bytes
    for number in range(0, 16, 2):
        assert wide.start[number] + 20 == wide.start[number + 1]
    assert spaced(placed, Gaps(), 5, [0] * 64, Random(2)).start == placed.start


def test_near_touches_are_met_without_loops_where_lines_have_room() -> None:
    target = make(0, request(), Knobs(), 9, 9)
    assert target is not None
    many = [sum(slot.trips > 1 for slot in _nodes(grow(target, 0.0, room, Random(3)).root)) for room in (1.0, 2.5)]
    assert many[1] < many[0] / 2
    grown = grow(target, 0.0, 2.5, Random(3))
    assert grown.slots > len(grown.opening) > 0 and sum(grown.near) > 0


@pytest.mark.parametrize("seed", [1, 3, 4, 6])
def test_as_many_transfers_are_indirect_as_wanted(seed: int) -> None:
    """Also in small blocks, where one of them is much."""
    for indirect in (7.0, 13.0):
        target = make(0, request(0.2, indirect=indirect), Knobs(), 9, 9)
        assert target is not None
        plan = Planner(target, grow(target, 20.0, 1.5, Random(seed)), Random(seed), False)
        found = sum(slot.exits for slot in plan.slots if slot.transfer in (ICALL, IJUMP))
        assert found == pytest.approx(indirect, abs=0.5)


def _nodes(node: object) -> list:  # type: ignore[type-arg]
    return [node, *(inner for child in node.children if not isinstance(child, int) for inner in _nodes(child))]  # type: ignore[attr-defined]


def test_sets_keep_what_was_used_last() -> None:
    sets = Sets(8)
    lines = [64 * n for n in range(8)]
    assert all(sets.touch(line) for line in lines) and not any(sets.touch(line) for line in lines)
    assert sets.touch(64 * 8) and sets.touch(0) and not sets.touch(64 * 8)
    request_of_one = [(0, (0,), True)]
    assert code_misses([lines], [0], [], request_of_one) == [0]
    assert code_misses([lines], [0], [64 * 9 + 64 * 1000], request_of_one) == [8]


def test_code_is_spread_so_that_as_many_lines_are_missed_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []
    make_misses = emit.code_misses

    def counted(*arguments: object) -> list[float]:
        found.append(sum(make_misses(*arguments)))
        return make_misses(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(emit, "code_misses", counted)
    dense = emit.emit([request()], Knobs(), 1)
    assert len(found) == 1 and found[0] < 20
    wanted = 60.0
    wide = emit.emit([request(code_set_misses=wanted)], Knobs(), 1)
    assert min(abs(f - wanted) for f in found) < 0.5 * abs(found[0] - wanted)
    assert wide.blocks[0].code_bytes > dense.blocks[0].code_bytes
    assert wide.assembly == emit.emit([request(code_set_misses=wanted)], Knobs(), 1).assembly


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_indirect_jumps_go_elsewhere_as_often_as_wanted(share: float) -> None:
    block = request(indirect_misses=share * 60)
    target = make(0, block, Knobs(), 9, 9)
    assert target is not None
    slots = emit._build(target, [], 0.0, Random(1)).filled.slots
    wandering = sum(s.exits * (1 - 1 / s.spread) for s in slots)
    assert wandering == pytest.approx(share * 60, abs=3)


def test_buffers_of_connections_begin_in_all_sets_of_a_cache(tmp_path: Path) -> None:
    """Of power-of-two places, all connections would use the same few sets."""
    text = """
    #include "pool.h"
    #include <stdio.h>
    int main(void) {
        struct pool pool = {0};
        unsigned sizes[] = {1024, 16384};
        pool_start(&pool);
        for (int i = 0; i < 256; i++) {
            unsigned capacity;
            printf("%zu\\n", (size_t)pool_get(&pool, sizes[i / 128], &capacity));
        }
    }
    """.replace("\\\\", "\\")
    (tmp_path / "p.c").write_text(text)
    command = ["gcc", "-D_GNU_SOURCE", f"-I{RUNTIME}", tmp_path / "p.c", RUNTIME / "pool.c", "-o", tmp_path / "p"]
    subprocess.run(command, check=True)
    places = list(map(int, subprocess.run([tmp_path / "p"], capture_output=True, text=True, check=True).stdout.split()))
    assert all(place % 64 == 0 for place in places)
    assert len({place // 64 % 64 for place in places[:128]}) == 64
    assert len({place // 64 % 64 for place in places[128:]}) >= 16
    for size, some in ((1024, sorted(places[:128])), (16384, sorted(places[128:]))):
        assert all(b - a >= size for a, b in pairwise(some))


@pytest.mark.valgrind
@pytest.mark.parametrize("period", [64, 4])
def test_random_words_come_in_turn(tmp_path: Path, period: int) -> None:
    """What branches do by chance is the same again after so many runs of the block, and not before."""
    block = request(0.1, predictor_misses=15, indirect_misses=3)
    program = build(emit.emit([block], Knobs.model_validate({"period": period}), 1), tmp_path)
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    entry = next(int(line.split()[0], 16) for line in listed.splitlines() if line.endswith(" ditto_block_0"))
    ran = [address for kind, address, _ in trace(program, 0, period + 12) if kind == "I"]
    begins = [n for n, address in enumerate(ran) if address == entry]
    turns = [tuple(ran[a:b]) for a, b in pairwise(begins)]
    assert len(turns) == period + 11 and len(set(turns[:period])) > period / 2
    assert turns[:8] == turns[period : period + 8]


def test_old_profiles_without_misses_of_sets_are_read() -> None:
    assert Block(instructions=5).code_set_misses == 0


def test_code_is_put_beside_that_of_the_runtime() -> None:
    crowded = [0] * 40 + [12] * 24
    beside = emit._runtime_code(crowded, (), (), (), Random(1))
    assert sorted(Counter(line % 64 for line in beside).items()) == [(number, 12) for number in range(40, 64)]
    assert len(set(beside)) == len(beside) and max(beside) < 0
    pages = [emit.emit([request(0.4)], Knobs(), 1, runtime_sets=sets).assembly for sets in ((), crowded)]
    assert all(re.search(r"\.text\n\t\.p2align 12\n", text) for text in pages)  # its sets are those it is placed by


def test_lines_of_the_runtime_are_those_that_most_requests_touch() -> None:
    blocks = np.zeros(4, BLOCK)
    blocks["addr"], blocks["length"] = (0x401000, 0x40107C, 0x402040, 0x403000), (10, 8, 4, 4)
    execs = np.zeros(5, EXEC)
    execs["block"], execs["count"] = (0, 0, 1, 2, 3), (4, 5, 9, 9, 2)
    run = cast(InstructionRun, SimpleNamespace(processes=[SimpleNamespace(blocks=blocks, execs=execs)]))
    found = code_sets(run, 10)
    assert {number: count for number, count in enumerate(found) if count} == {0: 1, 1: 2, 2: 1}
