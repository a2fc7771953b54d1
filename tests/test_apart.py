"""Where instructions that jump indirectly lie: apart from others, on the lines where they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from ditto.artifacts.lens import INDIRECT, LensProcess
from ditto.generate.body.apart import TABLE, apart
from ditto.generate.body.place import LINE, Placed
from ditto.generate.body.plan import ICALL, IJUMP, Slot
from ditto.generate.body.render import SlotCode
from ditto.streams.lens_read import _shared

JUMP = "\tjmp *.Lt(%rip)"


def moved(slot: Slot, size: int, begin: int, taken: set[int], text: list[str]) -> tuple[int, SlotCode, int]:
    """One slot of a line of its own: where it begins, its code, and the place in the table that it takes."""
    used = [1.0 if place in taken else 0.0 for place in range(TABLE)]
    before = list(used)
    placed = Placed([begin], LINE, [0], frozenset())
    found, codes = apart(placed, [slot], [SlotCode(text=text, size=size)], 0, 2.0, used, [0.0])
    took = [place for place in range(TABLE) if used[place] != before[place]]
    assert len(took) == 1 and used[took[0]] - before[took[0]] == 2.0
    return found.start[0], codes[0], took[0]


def test_a_slot_that_nobody_falls_into_lies_later() -> None:
    start, code, place = moved(Slot(0, 1, transfer=IJUMP), 20, 0, {14, 15}, ["\tnop", JUMP])
    assert (start, code.size, place) == (2, 20, 16)


def test_a_slot_that_begins_a_line_has_an_instruction_lengthened() -> None:
    slot = Slot(0, 1, transfer=IJUMP, landing=True)
    start, code, place = moved(slot, 20, 0, {14, 15}, ["\tnop", "\tor %eax, %ecx", JUMP])
    assert (start, code.size, place) == (0, 22, 16)
    assert code.text == ["\tnop", "\t.byte 46, 46", "\tor %eax, %ecx", JUMP]


@pytest.mark.parametrize("before", [".Lb0_0_e1:", "\tjne .Ls1", "\t{disp32} jne .Lb0_2"])
def test_branches_and_labels_get_no_prefix(before: str) -> None:
    slot = Slot(0, 1, transfer=IJUMP, first=True)
    assert moved(slot, 20, 0, {14}, ["\tnop", before, JUMP])[1].size == 20


def test_a_call_that_ends_a_line_begins_earlier() -> None:
    used = [0.0] * TABLE
    used[LINE - 6] = 1.0
    slots = [Slot(0, 1, transfer="jmp"), Slot(1, 1, transfer=ICALL)]
    codes = [SlotCode(["\tjmp .L"], 5), SlotCode(["\tnop", "\tcall *.Lt(%rip)"], 7)]
    placed = Placed([0, LINE - 7], LINE, [0, 1], frozenset())
    found, longer = apart(placed, slots, codes, 0, 1.0, used, [0.0])
    assert found.start[1] + longer[1].size == LINE and used[LINE - 7] == 1.0
    assert longer[1].text == ["\tnop", "\t.byte 46", "\tcall *.Lt(%rip)"] and found.start[0] == 0


def test_without_room_nothing_moves() -> None:
    start, code, _ = moved(Slot(0, 1, transfer=IJUMP), LINE, 0, {LINE - 6}, ["\tnop", JUMP])
    assert (start, code.size) == (0, LINE)


@pytest.mark.parametrize(("may", "place", "rest"), [(0.0, 15, 0.0), (0.5, 15, 0.5), (1.0, 16, 0.0), (3.0, 14, 1.2)])
def test_as_many_share_a_place_as_may(may: float, place: int, rest: float) -> None:
    """Two of one execution in any order: before one of them, on average, the other was there."""
    used, left = [0.0] * TABLE, [may]
    used[14], used[16] = 9.0, 1.0  # of which 1.8 and 1 would share
    before = list(used)
    slot, code = Slot(0, 1, transfer=IJUMP), SlotCode(text=["\tnop", JUMP], size=20)
    apart(Placed([0], LINE, [0], frozenset()), [slot], [code], 0, 1.0, used, left)
    assert [n for n in range(TABLE) if used[n] != before[n]] == [place] and left == [pytest.approx(rest)]


def test_what_shares_a_place_in_a_program_is_known_by_its_addresses() -> None:
    indirects = np.zeros(4, INDIRECT)
    indirects["addr"] = [0x1000, 0x1000 + TABLE, 0x1001, 0x1000 + 2 * TABLE]
    indirects["kind"] = [0, 1, 1, 2]  # the last one is a return
    indirects["executions"] = [30, 10, 5, 100]
    found = _shared(cast(LensProcess, SimpleNamespace(indirects=indirects)))
    assert found[:3].tolist() == [0.25, 0.75, 0.0]
