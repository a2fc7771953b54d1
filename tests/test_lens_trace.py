"""The lens' histograms against a plain trace: every access recomputed from lackey's, with LRU stacks in Python."""

from __future__ import annotations

import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from iced_x86 import Decoder, FlowControl

from ditto.artifacts.lens import LensProcess, load_lens
from ditto.host.lens import lens_command, lens_env
from ditto.paths import lens_directory

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(
        not (lens_directory() / "lens-amd64-linux").is_file(), reason="the lens is not built: make -C native/lens"
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

# A mix of short and long distances: sorting, hashing into a table, a linked list, recursion, strings.
PROGRAM = """
static unsigned seed = 12345;
static unsigned next(void) { seed = seed * 1664525u + 1013904223u; return seed >> 8; }
static struct node { struct node *link; long value; char pad[112]; } nodes[600];
static unsigned char table[70001];
static long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static void copy(char *to, const char *from, long n) { __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)
    :: "memory"); }
int work(void) {
    for (int i = 0; i < 600; i++) nodes[i].link = &nodes[(i * 37 + 1) % 600];
    struct node *n = nodes;
    long sum = fib(11);
    for (int i = 0; i < 3000; i++) { n = n->link; n->value += i; sum += n->value; }
    for (int i = 0; i < 4000; i++) { unsigned k = next() % 70000; *(unsigned short *)(table + k) += 1; }
    for (int i = 0; i < 300; i++) { unsigned k = next() % 60000; copy((char *)table + k, (char *)nodes + k, k % 90); }
    for (int i = 0; i < 5000; i++) sum += table[(next() % 7) * (next() % 1000)];
    return (int)sum;
}
void _start(void) {
    volatile int r = work(); (void)r;
    __asm__ volatile("mov $60, %eax; xor %edi, %edi; syscall");
}
"""


class Stack:
    """An LRU stack that answers with the bucket of each access; the distance by counting."""

    def __init__(self) -> None:
        self.order: OrderedDict[int, None] = OrderedDict()
        self.histogram = np.zeros(24, int)

    def touch(self, key: int, histogram: np.ndarray | None = None) -> None:
        if key not in self.order:
            bucket = 23
        else:
            distance = 0
            for other in reversed(self.order):
                if other == key:
                    break
                distance += 1
            bucket = distance.bit_length()
        (self.histogram if histogram is None else histogram)[bucket] += 1
        self.order[key] = None
        self.order.move_to_end(key)

    @property
    def newest(self) -> int | None:
        return next(reversed(self.order), None)


def lines(address: int, size: int) -> range:
    return range(address >> 6, ((address + size - 1) >> 6) + 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[LensProcess, list[tuple[str, int, int]], Path]:
    folder = tmp_path_factory.mktemp("trace")
    (folder / "p.c").write_text(PROGRAM)
    program = folder / "p"
    subprocess.run(["gcc", "-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-stack-protector",
                    "-mstackrealign", "-o", program, folder / "p.c"], check=True)  # fmt: skip
    subprocess.run(lens_command([str(program)], folder / "out"), env=lens_env(), check=True, timeout=60)
    (file,) = folder.glob("out.*.lens")
    # lackey counts what the optimiser leaves: the same precision, no chasing, no unrolling
    command = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--basic-counts=no", "--vex-guest-chase=no",
               "--vex-iropt-unroll-thresh=0", "--vex-iropt-register-updates=allregs-at-each-insn",
               f"--log-file={folder / 'trace'}", str(program)]  # fmt: skip
    subprocess.run(command, env=lens_env(), check=True, timeout=60)
    trace = []
    for line in (folder / "trace").read_text().splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind in ("I", "L", "S", "M"):
            address, _, size = rest.strip().partition(",")
            trace.append((kind, int(address, 16), int(size)))
    return load_lens(file), trace, program


def test_data_and_page_histograms(both: tuple[LensProcess, list[tuple[str, int, int]], Path]) -> None:
    process, trace, _ = both
    data, pages = Stack(), Stack()
    load, store = np.zeros(24, int), np.zeros(24, int)
    for kind, address, size in trace:
        for histogram in {"L": (load,), "S": (store,), "M": (load, store)}.get(kind, ()):
            for line in lines(address, size):
                data.touch(line, histogram)
                pages.touch(line >> 6)
    assert process.load_hist.sum(0).tolist() == load.tolist()
    assert process.store_hist.sum(0).tolist() == store.tolist()
    assert process.page_hist.sum(0).tolist() == pages.histogram.tolist()
    assert load[5:12].min() > 0  # the program really reaches deep


def test_fully_associative_cache_hits(both: tuple[LensProcess, list[tuple[str, int, int]], Path]) -> None:
    """A cache of 2**k lines hits exactly buckets 0..k."""
    process, trace, _ = both
    histogram = (process.load_hist + process.store_hist).sum(0)
    for k in (3, 6, 9):
        cache: OrderedDict[int, None] = OrderedDict()
        hits = 0
        for kind, address, size in trace:
            for _ in range({"L": 1, "S": 1, "M": 2}.get(kind, 0)):
                for line in lines(address, size):
                    hits += line in cache
                    cache[line] = None
                    cache.move_to_end(line)
                    if len(cache) > 1 << k:
                        cache.popitem(last=False)
        assert histogram[: k + 1].sum() == hits


def test_code_histogram_and_instructions(both: tuple[LensProcess, list[tuple[str, int, int]], Path]) -> None:
    process, trace, program = both
    image = program.read_bytes()
    base = _text_base(program)
    code = Stack()
    entry, count, rep_extra, last = True, 0, 0, (0, False)
    for kind, address, size in trace:
        if kind != "I":
            continue
        raw = image[address - base[0] + base[1] :][:size]
        instruction = next(iter(Decoder(64, raw, ip=address)))
        if instruction.has_rep_prefix and last == (address, True):
            rep_extra += 1
            continue
        count += 1
        for i, line in enumerate(lines(address, size)):
            if (entry and i == 0) or line != code.newest:
                code.touch(line)
        entry = instruction.flow_control != FlowControl.NEXT or instruction.has_rep_prefix
        last = (address, instruction.has_rep_prefix)
    assert process.instructions.sum() == count
    assert process.rep_extra.sum() == rep_extra
    assert process.code_hist.sum(0).tolist() == code.histogram.tolist()


def _text_base(program: Path) -> tuple[int, int]:
    """Address and file offset of .text."""
    out = subprocess.run(["readelf", "-SW", program], check=True, capture_output=True, text=True).stdout
    fields = next(line for line in out.splitlines() if " .text " in line).split(".text")[1].split()
    return int(fields[1], 16), int(fields[2], 16)
