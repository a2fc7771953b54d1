"""Builds generated bodies into test programs, and measures them with Valgrind's own tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ditto.generate.body import BodyCode
from ditto.generate.body.isa import SHARED_LINES

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "native" / "runtime"


def tables(code: BodyCode) -> str:
    """C for the layout and the table of blocks."""
    pools = ",".join(
        f"{{{p.offset}u,{p.lines}u,{p.step}u,{int(p.permuted)},{int(p.shared)}}}" for p in code.layout.pools
    )
    cursors = ",".join(map(str, code.layout.cursors)) or "0"
    names = [b.symbol for b in code.blocks]
    shared = SHARED_LINES if code.layout.shared_bytes else "0"
    return "\n".join([
        '#include "body.h"',
        *(f"void {n}(struct ditto_body *);" for n in names),
        f"extern uint8_t {SHARED_LINES}[];",
        f"static const struct ditto_body_pool pool[] = {{{pools}}};",
        f"static const uint32_t cursor[] = {{{cursors}}};",
        (
            f"const struct ditto_body_layout layout = {{{code.layout.arena_bytes}u, {len(code.layout.pools)}, pool, "
            f"{len(code.layout.cursors)}, cursor, {code.layout.shared_bytes}u, {shared}}};"
        ),
        f"void (*const block_table[])(struct ditto_body *) = {{{', '.join(names)}}};",
        f"const int block_count = {len(names)};",
        "",
    ])  # fmt: skip


def build(code: BodyCode, where: Path, opt: str = "-O2", link: tuple[str, ...] = ("-static",)) -> Path:
    """Compile the driver with the body; returns the program."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "blocks.S").write_text(code.assembly)
    (where / "layout.c").write_text(tables(code))
    program = where / "driver"
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-D_GNU_SOURCE", opt, *link, f"-I{RUNTIME}", "-pthread",
         str(where / "blocks.S"), str(where / "layout.c"), str(HERE / "driver.c"), str(HERE / "abi.S"),
         str(RUNTIME / "body.c"), "-o", str(program)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return program


def instructions(program: Path, block: int, few: int = 20, many: int = 120) -> float:
    """Instructions of one run and of the driver's loop around it, by callgrind: the difference of two run lengths."""
    counts = []
    for times in (few, many):
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), str(block), str(times)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found, done.stderr
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (many - few)


def trace(program: Path, block: int, times: int) -> list[tuple[str, int, int]]:
    """Lackey's trace: (I, L, S or M; address; size)."""
    done = subprocess.run(
        # What is loaded and never used is executed nevertheless: the optimiser leaves it out unless told not to.
        ["valgrind", "--tool=lackey", "--trace-mem=yes", "--vex-iropt-register-updates=allregs-at-each-insn",
         str(program), str(block), str(times)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = re.findall(r"^(I| [LSM])\s+([0-9a-f]+),(\d+)$", done.stderr, re.M)
    return [(kind.strip(), int(address, 16), int(size)) for kind, address, size in found]
