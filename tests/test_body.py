"""The body generator: counts, distances, calling convention, determinism, hostile input."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from math import inf
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ditto.artifacts.profile import Knobs
from ditto.artifacts.work import Block, Work
from ditto.generate.body import BodyCode, emit
from ditto.generate.body.accesses import Site, loop_lines
from ditto.generate.body.chapters import divide
from ditto.generate.body.data import _sweeps
from ditto.generate.body.lru import Stack, bucket_of
from ditto.generate.body.mixes import LOADS
from ditto.generate.body.pools import Cursor, reuse_time, sizes
from ditto.generate.body.reach import Order, edges, reaches
from ditto.generate.body.steps import Context
from ditto.generate.body.string_fill import string_fill
from ditto.generate.body.target import make

sys.path.insert(0, str(Path(__file__).parent / "body"))

from build_body import build, instructions, trace

from profile_parts import block

MIX = {
    "mov_l": 0.18, "mov_s": 0.08, "mov_r": 0.12, "arith_r": 0.08, "cmp_r": 0.08, "cmp_l": 0.05, "jcc": 0.164,
    "jmp": 0.025,
    "lea_r": 0.05, "logic_r": 0.05, "push_r": 0.03, "pop_r": 0.03, "call": 0.012, "icall": 0.006,
    "ijmp": 0.006, "ret": 0.018,
    "shift_r": 0.03, "movx_l": 0.03, "arith_m": 0.01, "ssemov_l": 0.01, "ssemov_s": 0.01,
}  # fmt: skip
BINS = [0.0] * 100
BINS[0], BINS[90], BINS[33], BINS[55] = 400.0, 300.0, 60.0, 60.0


def request(scale: float = 1.0, **changes: object) -> Block:
    """Something like a key-value lookup of 5006 instructions."""
    values: dict[str, object] = {
        "instructions": 5006 * scale,
        "loads": 1335 * scale,
        "stores": 742 * scale,
        "load_distance": [v * scale for v in (250, 180, 200, 180, 150, 100, 70, 60, 90, 40, 5, 3, 2, 4, 1)],
        "store_distance": [v * scale for v in (200, 120, 130, 80, 60, 50, 20, 20, 30, 30, 1)],
        "code_distance": [v * scale for v in (500, 20, 40, 60, 80, 60, 50, 60, 100, 428)],
        "code_touches": 1398 * scale,
        "branches": 820 * scale,
        "branch_bins": [v * scale for v in BINS],
        "predictor_misses": 40 * scale,
        "indirect": 60 * scale,
        "indirect_targets": 3,
        "calls": 90 * scale,
        "chase_share": 0.2,
        "mix": MIX,
    }
    return Block.model_validate({**values, **changes})


WIDE = {"mov_l": 0.2, "avxmov_l": 0.05, "avxint_r": 0.05, "avxfp_r": 0.05, "ssefp_l": 0.04, "ssefp_r": 0.04,
    "sseint_l": 0.03,
        "cvt_r": 0.02, "cvt_l": 0.02, "crc_r": 0.02, "crc_l": 0.02, "bit_r": 0.03, "bit_l": 0.02,
        "mul_r": 0.03, "mul_l": 0.02,
        "div_r": 0.01, "atomic_m": 0.01, "cmov_r": 0.03, "cmov_l": 0.02, "setcc_r": 0.03, "setcc_s": 0.02,
        "shift_m": 0.02,
        "shift_l": 0.02, "logic_m": 0.02, "nop": 0.03, "avxmov_s": 0.03, "jcc": 0.12}  # fmt: skip


@pytest.fixture(scope="module")
def code() -> BodyCode:
    return emit(
        [
            request(),
            Block(instructions=2000, mix=WIDE, predictor_misses=5),
            Block(instructions=40),
            Block(
                instructions=30_000,
                code_lines=40,
                code_touches=9000,
                code_distance=[3000, 500, 2000, 2000, 1460, 0, 40],
            ),
            Block(instructions=0),
        ],
        Knobs(),
        5,
    )


@pytest.mark.valgrind
def test_instruction_counts_are_those_callgrind_sees(code: BodyCode, tmp_path: Path) -> None:
    program = build(code, tmp_path)
    loop = instructions(program, 4) - 1
    for number, facts in enumerate(code.blocks[:4]):
        measured = instructions(program, number) - loop
        assert measured == pytest.approx(facts.instructions, rel=0.004, abs=1)
        assert facts.instructions == pytest.approx(facts.target, rel=0.005, abs=20 if number == 2 else 1)


@pytest.mark.parametrize("opt", ["-O0", "-O1", "-O2", "-O3"])
def test_calling_convention(code: BodyCode, tmp_path: Path, opt: str) -> None:
    program = build(code, tmp_path, opt)
    assert subprocess.run([program, "-1", "300", "abi"], capture_output=True, text=True, check=True).stdout == "0\n"
    assert subprocess.run([program, "-1", "1", "threads"], capture_output=True, text=True, check=True).stdout == "0\n"


def test_far_reads_stay_inside_the_widest_pool(code: BodyCode, tmp_path: Path) -> None:
    program = build(code, tmp_path)
    assert subprocess.run([program, "-1", "100000", "far"], capture_output=True, text=True, check=True).stdout == "0\n"


def test_links_position_independent(code: BodyCode, tmp_path: Path) -> None:
    program = build(code, tmp_path, link=("-static-pie", "-fPIE"))
    assert subprocess.run([program, "-1", "50", "abi"], capture_output=True, text=True, check=True).stdout == "0\n"
    headers = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout
    assert "RWE" not in headers


@pytest.mark.valgrind
def test_data_distances_against_a_trace(tmp_path: Path) -> None:
    code = emit([request(0.2), Block(instructions=0)], Knobs(), 3)
    program = build(code, tmp_path)
    short, long = _histogram(trace(program, 0, 15)), _histogram(trace(program, 0, 35))
    idle = sum(_histogram(trace(program, 1, 35))) - sum(_histogram(trace(program, 1, 15)))  # the driver's own
    facts = code.blocks[0]
    measured = [(b - a) / 20 for a, b in zip(short, long, strict=True)]
    wanted = [a + b for a, b in zip(facts.load_distance, facts.store_distance, strict=True)]
    assert sum(measured) - idle / 20 == pytest.approx(sum(wanted), rel=0.02, abs=6)
    worst, running = 0.0, 0.0
    for have, want in zip(measured, wanted, strict=True):
        running += have - want
        worst = max(worst, abs(running))
    assert worst <= 0.03 * sum(wanted) + 6


def _histogram(events: list[tuple[str, int, int]]) -> list[float]:
    """Distances of all accesses; one that crosses lines is one of each, and a load and store in one is two."""
    stack: list[int] = []
    out = Counter[int]()
    for kind, address, size in events:
        if kind == "I":
            continue
        for line in range(address >> 6, (address + size - 1 >> 6) + 1):
            if line in stack:
                depth = stack.index(line)
                out[depth.bit_length()] += 1
                del stack[depth]
            else:
                out[23] += 1
            stack.insert(0, line)
        out[0] += kind == "M"
    return [float(out[b]) for b in range(24)]


def test_same_arguments_same_bytes(code: BodyCode) -> None:
    assert emit([request()], Knobs(), 9) == emit([request()], Knobs(), 9)
    assert emit([request()], Knobs(), 9).assembly != emit([request()], Knobs(), 10).assembly


def test_knobs_turn() -> None:
    plain = emit([request()], Knobs(), 2).blocks[0]
    assert emit([request()], Knobs(instructions=1.2), 2).blocks[0].instructions == pytest.approx(6007, rel=0.005)
    assert emit([request()], Knobs(entropy=2), 2).blocks[0].random > 1.4 * plain.random
    assert emit([request()], Knobs(entropy=0), 2).blocks[0].random == 0
    assert emit([request()], Knobs(irregular=0), 2).blocks[0].chase_share < plain.chase_share


def test_a_skeleton_larger_than_the_block_leaves_a_return() -> None:
    facts = emit([Block(instructions=100, aim=Work(instructions=2))], Knobs(), 1).blocks[0]
    assert facts.empty and facts.instructions == 1


@pytest.mark.parametrize("instructions_wanted", [1e9, 1e12, 7, 12, 33])
def test_extreme_sizes_stay_small(instructions_wanted: float) -> None:
    code = emit([Block(instructions=instructions_wanted)], Knobs(), 1)
    assert len(code.assembly) < 4 << 20
    assert code.layout.arena_bytes < 1 << 30
    assert code.blocks[0].instructions == pytest.approx(min(instructions_wanted, 1e11), rel=0.005, abs=25)


def one_bucket(bucket: int, count: float) -> list[float]:
    out = [0.0] * 24
    out[bucket] = count
    return out


@pytest.mark.parametrize("bucket", [0, 1, 5, 12, 21, 22, 23])
def test_all_in_one_bucket(bucket: int, tmp_path: Path) -> None:
    values = one_bucket(bucket, 800.0)
    code = emit(
        [Block(instructions=2000, loads=800, stores=800, load_distance=values, store_distance=values,
        code_distance=values,
               code_touches=800)],
        Knobs(), 1,
    )  # fmt: skip
    assert code.layout.arena_bytes < 1 << 30 and len(code.assembly) < 4 << 20
    if code.layout.arena_bytes < 64 << 20:
        program = build(code, tmp_path)
        assert subprocess.run([program, "-1", "20", "abi"], capture_output=True, text=True, check=True).stdout == "0\n"


def shared_accesses(assembly: str) -> tuple[int, int]:
    """Accesses of lines that threads share: those that read, and those that write."""
    found = re.findall(r"^\t(\S+) .*?(, )?ditto_shared_lines\+\d+\(%rip\)", assembly, re.M)
    writes = sum(
        (bool(last) and not name.startswith(("cmp", "test"))) or name.startswith("set") for name, last in found
    )
    return len(found) - writes, writes


def test_threads_share_lines_as_far_as_the_originals_do(tmp_path: Path) -> None:
    half = [v / 2 for v in (0, 0, 0, 0, 150, 100, 70, 60, 90, 40, 5, 3, 2, 4, 1)]
    read, written = (emit([request(shared_loads=half, **more)], Knobs(), 1) for more in (
        {}, {"shared_stores": [v / 2 for v in (0, 0, 0, 0, 60, 50, 20, 20, 30, 30, 1)]},
    ))  # fmt: skip
    alone = emit([request()], Knobs(), 1)
    assert alone.layout.shared_bytes == 0 and shared_accesses(alone.assembly) == (0, 0)
    reads, writes = shared_accesses(read.assembly)
    assert read.layout.shared_bytes and reads > 50 and writes == 0
    assert shared_accesses(written.assembly)[1] > 10
    assert any(pool.shared for pool in written.layout.pools) and not written.layout.pools[0].shared
    for code in (read, written):
        program = build(code, tmp_path)
        assert subprocess.run([program, "-1", "20", "abi"], capture_output=True, text=True, check=True).stdout == "0\n"
        subprocess.run([program, "-1", "20", "threads"], check=True, capture_output=True)
        assert instructions(program, 0) == pytest.approx(code.blocks[0].instructions, rel=0.02)


def test_sweeps_take_no_more_lines_than_come_back_with_the_next_request() -> None:
    late = 30.0
    near, loops = [500, 0, 0, 0, 0, 150, 75, 0, late], [300, 900, 0, 0, 0, 0, 60]
    swept = request(
        load_distance=near, store_distance=near, stride_share=0.5, code_distance=loops, code_touches=sum(loops)
    )
    assert emit([swept], Knobs(), 1).blocks[0].data_lines < 2.5 * 2 * late


def test_what_can_be_done_by_several_classes_is_done_by_those_that_lack() -> None:
    context = Context(Random(1), left={"mul_r": 3.0, "lea_r": 1.0})
    chosen = [context.most_wanted(("mul_r", "lea_r"), 1) for _ in range(4)]
    assert Counter(chosen) == {"mul_r": 3, "lea_r": 1}
    without = {name: share for name, share in MIX.items() if not name.startswith(("mul", "movx"))}
    found = emit([request(mix=without)], Knobs(), 1).blocks[0].mix
    assert found.get("mul_r", 0.0) < 0.002 and found.get("movx_l", 0.0) < 0.001


NUMBERS = st.floats(0, 4_000)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.builds(
        Block, instructions=NUMBERS, runs_per_request=st.floats(0, 100),
        mix=st.dictionaries(st.sampled_from([*MIX, *WIDE, "nonsense_m", "x87_l", "string_m", "q"]),
        st.floats(0, 1), max_size=6),
        loads=NUMBERS, stores=NUMBERS, load_distance=st.lists(NUMBERS, max_size=30),
        store_distance=st.lists(NUMBERS, max_size=30),
        code_distance=st.lists(NUMBERS, max_size=30), code_touches=NUMBERS, branches=NUMBERS,
        branch_bins=st.lists(NUMBERS, max_size=100), predictor_misses=NUMBERS, indirect=NUMBERS,
        indirect_targets=st.floats(0, 50), calls=NUMBERS, chase_share=st.floats(0, 1), stride_share=st.floats(0, 1),
        code_lines=NUMBERS,
    )
)  # fmt: skip
def test_hostile_blocks_never_crash_the_generator(block: Block) -> None:
    code = emit([block], Knobs(), 1)
    assert len(code.assembly) < 4 << 20 and code.layout.arena_bytes < 1 << 30
    subprocess.run(["as", "-o", "/dev/null", "-"], input=code.assembly, text=True, check=True, capture_output=True)


def test_many_stores_of_few_instructions_are_a_repeated_string_store(tmp_path: Path) -> None:
    lines = 16384
    cleared = request(0.4, stores=lines * 64 + 300, store_distance=[lines * 63 + 200, 60, 40, *[0] * 20, lines])
    made = emit([cleared], Knobs(), 1)
    facts = made.blocks[0]
    assert "rep stosb" in made.assembly
    assert facts.stores == pytest.approx(lines * 64 + 300, rel=0.02)
    assert facts.instructions == pytest.approx(2000, rel=0.05)
    assert made.layout.arena_bytes >= lines * 64
    wide = request(0.4, stores=lines * 8, store_distance=[lines * 7, *[0] * 22, lines])
    assert "rep stosq" in emit([wide], Knobs(), 1).assembly
    assert "rep stos" not in emit([request(0.4)], Knobs(), 1).assembly


def test_a_repeated_store_that_was_seen_makes_what_the_others_cannot() -> None:
    """Such as a structure of 1 KiB that each request clears: one instruction, not 128 of the mix."""
    plain = emit([request(0.4)], Knobs(), 1).blocks[0]
    stores = 742 * 0.4 + 128
    near = [208.0, 48, 52, 32, 24, 20, 8, 8, 12, 12]
    cleared = request(
        0.4, stores=stores, store_distance=[near[0] + 112, *near[1:9], near[9] + 16], mix={**MIX, "string_s": 0.0005}
    )
    made = emit([cleared], Knobs(), 1)
    facts = made.blocks[0]
    assert "rep stosq" in made.assembly
    assert facts.stores == pytest.approx(stores, rel=0.05)
    assert facts.instructions == pytest.approx(2000, rel=0.02)
    assert facts.mix["mov_s"] == pytest.approx(plain.mix["mov_s"], abs=0.015)
    unseen = emit([request(0.4, stores=stores)], Knobs(), 1)
    assert "rep stos" not in unseen.assembly


def test_vector_loads_cross_lines_where_there_are_more_loads_than_loading_instructions() -> None:
    vectors = MIX | {"avxmov_l": 0.08, "mov_r": 0.04}
    whole = sum(vectors.values())
    loading = sum(share for name, share in vectors.items() if name in LOADS) / whole

    def crossings(code: BodyCode) -> int:
        return sum(int(at) % 64 == 56 for at in re.findall(r"mov(?:dqu|ups) (-?\d+)\(%\w+", code.assembly))

    wanted = 5006 * (loading + 0.05)
    made = emit([request(loads=wanted, mix=vectors)], Knobs(), 1)
    facts = made.blocks[0]
    assert crossings(made) > 100
    assert facts.loads == pytest.approx(wanted, rel=0.05)
    assert facts.mix["avxmov_l"] == pytest.approx(0.08 / whole, abs=0.015)
    assert crossings(emit([request(loads=5006 * loading, mix=vectors)], Knobs(), 1)) == 0


def test_reads_are_as_near_to_writes_as_wanted() -> None:
    """All accesses are by one register, which is written anew or all would wait for the beginning of the block."""
    wanted = [0.22, 0.09, 0.14, 0.15, 0.19, 0.09, 0.05, 0.07]
    made = emit([request(raw=wanted)], Knobs(), 1)
    assert sum(abs(a - b) for a, b in zip(made.blocks[0].raw, wanted, strict=True)) / 2 < 0.12
    assert "lea (%rsi), %rsi" in made.assembly


def test_pushes_are_as_many_as_wanted_in_short_lines() -> None:
    facts = emit([request(mix=MIX | {"push_r": 0.06, "pop_r": 0.06, "mov_r": 0.06})], Knobs(), 1).blocks[0]
    assert facts.mix["push_r"] == pytest.approx(0.06, abs=0.008)


def test_loops_work_on_as_many_lines_as_their_accesses_find_far() -> None:
    """Of 40 accesses a trip, half at the same line and half evenly from 1 to 31: what is farther than w lines is w."""
    evenly = [500.0, *(500 * 2**b / 31 for b in range(5)), *[0.0] * 18]
    nothing = [0.0] * 24
    found = loop_lines((evenly, nothing), 9, 40)
    farther = 40 * 0.5 * (1 - found / 31)
    assert found == pytest.approx(farther, abs=1.5)
    assert loop_lines((nothing, nothing), 9, 40) == 1
    assert loop_lines(([10.0, *[0.0] * 23], nothing), 9, 40) == 1


def test_a_block_without_lines_of_its_own_has_a_few() -> None:
    near = request(0.2, code_distance=[110, 130, 10, 10, 5, 1], code_touches=266)
    assert emit([near], Knobs(), 1).blocks[0].code_lines >= 12


def test_vectors_do_not_wait_for_each_other(code: BodyCode) -> None:
    """Upper halves of registers stay clean beside older instructions, and no vector is loaded over narrower stores."""
    assert "ymm" not in code.assembly and "vmovdqu" in code.assembly and "mulsd" in code.assembly
    loads = re.findall(r"^\s*v?mov(?:ups|dqu) (-?\d*)\(%r(?:8|9|1\d|si|cx|dx|ax)\b[^)]*\), %xmm", code.assembly, re.M)
    assert loads and {int(at or 0) % 64 for at in loads} == {16}


LONG = request(
    120.0,
    code_distance=[90_000, 6000, 6000, 6000, 6000, 6000, 6000, 4000, 4000, 14_000, 12_000, 2200],
    code_touches=162_200.0,
    runs_per_request=1.0,
)


def test_chapters_of_a_long_block_come_back_as_far_as_wanted() -> None:
    (target,) = [make(0, LONG, Knobs(), 11, 6, True)]
    assert target is not None and target.repeat > 1
    chapters = divide(target, 1, Random(3))
    assert chapters is not None and [part.repeat for part in chapters.parts] == [
        chapters.order.count(n) for n in range(len(chapters.parts))
    ]
    stack, found = Stack(), [0.0] * 24
    for counted in (False, True):
        for number in chapters.order:
            for line in range(round(chapters.parts[number].code_lines)):
                depth = stack.touch(number << 20 | line)
                found[bucket_of(depth) if depth >= 0 else 23] += counted
    passes = len(chapters.order)
    near = [v * passes for v in chapters.parts[0].code_distance[:10]]
    assert sum(part.instructions * part.repeat for part in chapters.parts) == pytest.approx(LONG.instructions)
    assert near == pytest.approx(list(LONG.code_distance[:10]), rel=0.01)
    assert found[10] == pytest.approx(12_000, rel=0.2) and sum(found[11:]) == pytest.approx(2200, rel=0.35)
    assert divide(make(0, request(), Knobs(), 9, 9), 1, Random(3)) is None  # type: ignore[arg-type]


@pytest.mark.valgrind
def test_a_long_block_runs_its_chapters_in_order(tmp_path: Path) -> None:
    code = emit([LONG, request(), Block(instructions=0)], Knobs(), 5)
    program = build(code, tmp_path)
    assert subprocess.run([program, "-1", "3", "abi"], capture_output=True, text=True, check=True).stdout == "0\n"
    loop = instructions(program, 2, 1, 3) - 1
    measured = instructions(program, 0, 1, 3) - loop
    assert measured == pytest.approx(code.blocks[0].instructions, rel=0.01)
    assert measured == pytest.approx(code.blocks[0].target, rel=0.01)
    assert code.blocks[0].code_lines > 1500
    # What belongs to a pass comes back from lists that are sized by passes, not by requests.
    assert all(pool.lines < 40_000 for pool in code.layout.pools)


def test_lists_come_back_after_as_many_lines_as_the_original_touches_meanwhile() -> None:
    """A request touches 400 lines that come back in the next one, and 10 of a great many."""
    touches = [0.0] * 9 + [400.0] + [0.0] * 8 + [10.0]
    assert reuse_time(touches, 100.0) == pytest.approx(100 / 410)
    within = reuse_time(touches, 512.0)
    assert reuse_time(touches, 512.0 + 5000) == pytest.approx(within + 500)
    assert reuse_time(touches[:10], 512.0 + 5000) == inf
    lines = sizes([Cursor(0, 15, 4, 4.0), Cursor(0, 16, 6, 6.0)], touches, 1 << 20)
    # Of the lines touched until the last one is back, 10 a request, these are the streams' share.
    assert lines[0] == pytest.approx(0.4 * 1.4 * 2**14, rel=0.03) and lines[1] == pytest.approx(
        0.6 * 1.4 * 2**15, rel=0.03
    )
    # What the original never does has a length all the same.
    assert sizes([Cursor(0, 12, 4, 4.0)], touches[:10], 1 << 20) == [int(1.4 * 2**11 + 0.5)]


@pytest.mark.parametrize(("far", "near", "width"), [(1030, 3000, 1), (8250, 0, 8), (0, 3000, 1)])
def test_a_repeated_store_is_as_wide_as_the_lines_that_come_back_after_all_others_say(
    far: int, near: int, width: int
) -> None:
    distances = [66_000.0 - far - near, near / 2, near / 2, *[0.0] * 11, float(far)]
    found = string_fill(block(instructions=500.0, stores=66_000.0, mix={"string_s": 0.01}, store_distance=distances))
    assert found is not None and found.width == width


def test_what_runs_by_the_clock_has_lists_that_it_comes_back_to_within_a_run() -> None:
    """Between two touches of a near line lie as many others as its distance says; a far one waits for the next run."""
    streams = [Cursor(0, 11, 1100, 0.0), Cursor(0, 13, 800, 0.0)]
    near, far = sizes(streams, [10.0] * 12, 1 << 20)
    turn = near / 1100
    assert near + turn * 800 == pytest.approx(1.4 * 2**10, rel=0.01) and far == 800
    assert sizes([Cursor(0, 11, 3, 0.03)], [0.0] * 11 + [4.0], 1 << 20)[0] == 12


def test_lists_of_a_chapter_come_back_within_a_part_of_its_passes() -> None:
    chapter = [Cursor(0, 8, 300, 300.0 * 50, pass_lines=40.0), Cursor(0, 10, 100, 100.0)]
    assert sizes(chapter, [0.0] * 9 + [400.0], 1 << 20)[0] == pytest.approx(300 * 1.4 * 2**7 / (40 + 300), rel=0.02)


def test_only_long_requests_that_follow_addresses_leave_their_far_data_to_lists() -> None:
    short, long, straight = request(chase_share=0.4), request(8.0, chase_share=0.4), request(8.0, chase_share=0.2)
    orders = [Order((0,), 0.5), Order((1,), 0.3), Order((2,), 0.2)]
    found = reaches([short, long, straight], orders, ("load_distance", "store_distance"), 11, 6)
    assert [reach.capped for reach in found] == [False, True, False]
    assert found[1].edge == 6 and found[0].edge > 6 and found[2].edge > 6
    assert [reach.capped for reach in edges(3, orders, found)] == [False, True, False]


def test_sweeps_are_no_longer_than_their_lines_are_far() -> None:
    """A loop of a thousand trips goes through as many lines only where so many are found that far."""
    thousand = Site(False, 1000, 1000, 1, False, False)
    near, far = [5000.0, 900, 900, 900, 900, 400, 100, 0, 0, 0, 0], [*[0.0] * 10, 800]
    assert _sweeps(thousand, far, [1000.0, 1024.0]) and not _sweeps(thousand, near, [1000.0, 1024.0])
    assert not _sweeps(thousand, far, [1000.0, 512.0])  # others go through the lines that there are
    assert not _sweeps(thousand, far, [400.0, 1024.0])  # and hardly anything goes in order
    assert _sweeps(Site(False, 40, 40, 1, False, False), near, [1000.0, 64.0])
