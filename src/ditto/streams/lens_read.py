"""Work out, from what the lens counted, what the instructions of a segment are and how they depend on each other.

Blocks are decoded once per process; everything per key is then a product of block counts and block facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from iced_x86 import Decoder, Instruction, InstructionInfoFactory, OpAccess, Register, RegisterExt
from numpy.typing import NDArray

from ditto.artifacts.iforms import classify
from ditto.artifacts.lens import BUCKETS, NONE, TARGETS, KeySummary, LensProcess

DEPENDENCE_BUCKETS = 8
_LOOK_BACK = 64
"""Instructions before a block that are searched for the producers of its operands; what is farther away is "more"."""

_READS = frozenset((OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_WRITES = frozenset((OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE))
_INFO = InstructionInfoFactory()
_FULL: dict[int, int] = {}
_IGNORED = frozenset((Register.NONE, Register.RIP, Register.EIP, Register.CS, Register.DS, Register.ES, Register.SS,
                      Register.FS, Register.GS))  # fmt: skip


def _full(register: int) -> int:
    found = _FULL.get(register)
    if found is None:
        found = _FULL[register] = RegisterExt.full_register(cast(Any, register))
    return found


@dataclass(frozen=True)
class Decoded:
    """What an instruction does to registers (full registers) and memory."""

    iform: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    address: tuple[int, ...]
    load_count: int
    store_count: int

    @property
    def loads(self) -> bool:
        return self.load_count > 0


def decode(instruction: Instruction) -> Decoded:
    """What an instruction does."""
    info = _INFO.info(instruction)
    reads: dict[int, None] = {}
    writes: dict[int, None] = {}
    for used in info.used_registers():
        register = _full(used.register)
        if register in _IGNORED or register == Register.RSP:
            continue
        if used.access in _READS:
            reads[register] = None
        if used.access in _WRITES:
            writes[register] = None
    address: dict[int, None] = {}
    load_count = store_count = 0
    for memory in info.used_memory():
        store_count += memory.access in _WRITES
        if memory.access in _READS:
            load_count += 1
            for part in (memory.base, memory.index):
                register = _full(part) if part != Register.NONE else Register.NONE
                if register not in _IGNORED and register != Register.RSP:
                    address[register] = None
    return Decoded(classify(instruction), tuple(reads), tuple(writes), tuple(address), load_count, store_count)


# What an instruction does to registers does not depend on where it is.
_DECODED: dict[bytes, Decoded] = {}
_DECODED_MAX = 1 << 18
# Nor do blocks, and processes that were forked from one have the same: a service with one for each connection has
# hundreds.
_BLOCKS: dict[bytes, tuple[list[Decoded], Counter[str]]] = {}
_DEPENDENCES: dict[tuple[bytes, ...], tuple[NDArray[np.float64], int, int]] = {}
_BLOCKS_MAX = 1 << 17


def dependence_bucket(distance: int) -> int:
    """Bucket of a dependence distance in instructions: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more."""
    return min((distance - 1).bit_length(), DEPENDENCE_BUCKETS - 1)


@dataclass
class _Facts:
    """Per block (row) facts whose product with execution counts gives a key's figures."""

    names: list[str]
    mix: NDArray[np.float64]
    raw: NDArray[np.float64]
    war: NDArray[np.float64]
    waw: NDArray[np.float64]
    loads: NDArray[np.float64]
    chased: NDArray[np.float64]


@dataclass
class LensReader:
    """Aggregates one process.  Decodes all blocks on first use (some 10 microseconds an instruction)."""

    process: LensProcess
    _facts: _Facts | None = field(default=None, repr=False)

    def decode_block(self, block: int) -> list[Decoded]:
        """The instructions of a block."""
        return self._decoded(self.process.block_bytes(block), block)[0]

    def _decoded(self, code: bytes, block: int) -> tuple[list[Decoded], Counter[str]]:
        """The instructions of a block, and how many there are of each class."""
        if (found := _BLOCKS.get(code)) is not None:
            return found
        decoder = Decoder(64, code, ip=int(self.process.blocks["addr"][block]))
        out = []
        at = 0
        for instruction in decoder:
            raw = code[at : at + instruction.len]
            at += instruction.len
            known = _DECODED.get(raw)
            if known is None:
                if len(_DECODED) >= _DECODED_MAX:
                    _DECODED.clear()
                known = _DECODED[raw] = decode(instruction)
            out.append(known)
        if len(_BLOCKS) >= _BLOCKS_MAX:
            _BLOCKS.clear()
        _BLOCKS[code] = out, Counter(instruction.iform for instruction in out)
        return _BLOCKS[code]

    def _before(self, block: int, preds: list[int], lengths: list[int]) -> list[int]:
        """The blocks that usually run before a block, nearest first, as far as `_LOOK_BACK` instructions."""
        found: list[int] = []
        at, instructions = block, 0
        while instructions < _LOOK_BACK:
            at = preds[at]
            if at == NONE or not lengths[at]:
                break
            found.append(at)
            instructions += lengths[at]
        return found

    def facts(self) -> _Facts:
        if self._facts is not None:
            return self._facts
        count = len(self.process.blocks)
        codes = [self.process.block_bytes(b) for b in range(count)]
        decoded, counted = [], []
        for b, code in enumerate(codes):
            block, classes = self._decoded(code, b)
            decoded.append(block)
            counted.append(classes)
        lengths = [len(block) for block in decoded]
        preds = self.process.blocks["pred"].tolist()
        index: dict[str, int] = {}
        for classes in counted:
            for name in classes:
                index.setdefault(name, len(index))
        mix = np.zeros((count, max(len(index), 1)))
        distances = np.zeros((3, count, DEPENDENCE_BUCKETS))
        loads, chased = np.zeros(count), np.zeros(count)
        for b, classes in enumerate(counted):
            for name, instructions in classes.items():
                mix[b, index[name]] = instructions
            before = self._before(b, preds, lengths)
            key = (codes[b], *(codes[at] for at in before))
            known = _DEPENDENCES.get(key)
            if known is None:
                ran = [instruction for at in before for instruction in reversed(decoded[at])][:_LOOK_BACK]
                found = np.zeros((3, DEPENDENCE_BUCKETS))
                if len(_DEPENDENCES) >= _BLOCKS_MAX:
                    _DEPENDENCES.clear()
                known = _DEPENDENCES[key] = found, *_dependences(ran, decoded[b], found)
            distances[:, b], chased[b], loads[b] = known
        self._facts = _Facts(list(index), mix, distances[0], distances[1], distances[2], loads, chased)
        return self._facts

    def counts(self, keys: Iterable[int]) -> NDArray[np.float64]:
        """[b] executions of each block under these keys."""
        execs = self.process.execs
        chosen = np.isin(execs["key"], np.fromiter(keys, np.uint32))
        out = np.zeros(len(self.process.blocks))
        np.add.at(out, execs["block"][chosen], execs["count"][chosen].astype(np.float64))
        return out

    def iform_mix(self, keys: Iterable[int]) -> dict[str, int]:
        """Instructions by iform class under these keys."""
        facts = self.facts()
        counts = self.counts(keys)
        ran = np.flatnonzero(counts)  # few of a large program's blocks
        total = counts[ran] @ facts.mix[ran]
        return {name: int(n) for name, n in sorted(zip(facts.names, total, strict=False)) if n}

    def summary(self, keys: Iterable[int] | None = None) -> KeySummary:
        """One summary of these keys together (of all keys by default)."""
        p = self.process
        chosen = tuple(range(len(p.keys))) if keys is None else tuple(keys)
        rows = np.array(chosen, np.intp)
        counts = self.counts(chosen)
        facts = self.facts()
        total_loads = float(counts @ facts.loads)
        branches = _per_target(counts, p.blocks["branch"], len(p.branches))
        indirect = _per_target(counts, p.blocks["indirect"], len(p.indirects))
        jumps = np.where(p.indirects["kind"] != 2, indirect, 0.0)
        hist = {name: np.asarray(getattr(p, name)[rows].sum(axis=0), np.uint64).reshape(BUCKETS)
                for name in ("load_hist", "store_hist", "code_hist", "page_hist",
                             "shared_load_hist", "shared_store_hist")}  # fmt: skip
        ran = p.blocks[counts > 0]
        return KeySummary(
            keys=chosen,
            visits=int(p.visits[rows].sum()),
            instructions=int(p.instructions[rows].sum()),
            mix=self.iform_mix(chosen),
            loads=int(hist["load_hist"].sum()),
            stores=int(hist["store_hist"].sum()),
            load_hist=hist["load_hist"],
            store_hist=hist["store_hist"],
            code_hist=hist["code_hist"],
            page_hist=hist["page_hist"],
            shared_load_hist=hist["shared_load_hist"],
            shared_store_hist=hist["shared_store_hist"],
            stride_share=self._stride_share(counts),
            branches=int(branches.sum()),
            branch_taken=int(p.branch_taken[rows].sum()),
            branch_misses=int(p.branch_misses[rows].sum()),
            branch_bins=_branch_bins(p, branches),
            branch_sites=int((branches > 0).sum()),
            indirect=int(jumps.sum()),
            indirect_sites=int((jumps > 0).sum()),
            indirect_targets=float(jumps @ p.indirects["ntargets"] / jumps.sum()) if jumps.sum() else 0.0,
            indirect_misses=int(p.indirect_misses[rows].sum()),
            jump_misses=float(jumps @ (p.indirects["misses"] / np.maximum(p.indirects["executions"], 1))),
            calls=int(counts[p.blocks["call"] == 1].sum()),
            returns=int(counts[p.blocks["call"] == 2].sum()),
            raw=counts @ facts.raw,
            war=counts @ facts.war,
            waw=counts @ facts.waw,
            chase_share=float(counts @ facts.chased / total_loads) if total_loads else 0.0,
            code_set_misses=int(p.code_set_misses[rows].sum()),
            data_set_misses=int(p.data_set_misses[rows].sum()),
            jump_shares=float(jumps @ _shared(p)),
            code_lines=len({line for addr, length in zip(ran["addr"].tolist(), ran["length"].tolist(), strict=True)
                            for line in range(addr >> 6, (addr + length - 1 >> 6) + 1)}),
        )  # fmt: skip

    def _stride_share(self, counts: NDArray[np.float64]) -> float:
        sites = self.process.sites
        share = sites["same_stride"] / np.maximum(sites["executions"], 1)
        blocks = self.process.blocks
        weights = np.repeat(counts, blocks["accesses"])
        if not weights.sum():
            return 0.0
        return float(weights @ share[self.process.access_sites] / weights.sum())


def _per_target(counts: NDArray[np.float64], index: NDArray[np.uint32], size: int) -> NDArray[np.float64]:
    out = np.zeros(size)
    has = index != NONE
    np.add.at(out, index[has], counts[has])
    return out


def _shared(p: LensProcess) -> NDArray[np.float64]:
    """For each indirect jump, how often another one came before at its place in a table, all in any order."""
    executions = np.where(p.indirects["kind"] != 2, p.indirects["executions"], 0).astype(np.float64)
    place = (p.indirects["addr"] % TARGETS).astype(np.intp)
    whole = np.bincount(place, executions, TARGETS)[place]
    return np.asarray(1.0 - executions / np.maximum(whole, 1.0))


def _branch_bins(p: LensProcess, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    bins = np.zeros((10, 10))
    executions = np.maximum(p.branches["executions"], 1)
    taken = np.minimum((p.branches["taken"] * 10 // executions).astype(int), 9)
    transitions = np.minimum((p.branches["transitions"] * 10 // executions).astype(int), 9)
    np.add.at(bins, (taken, transitions), weights)
    return bins


def _dependences(before: list[Decoded], block: list[Decoded], out: NDArray[np.float64]) -> tuple[int, int]:
    """Add a block's RAW, WAR and WAW distances to ``out`` [3, 8]; return (loads with a loaded address, loads)."""
    written: dict[int, int] = {}
    read: dict[int, int] = {}
    loaded: dict[int, bool] = {}
    for i in range(len(before) - 1, -1, -1):
        _step(before[i], -1 - i, written, read, loaded)
    chased = loads = 0
    complete = len(before) == _LOOK_BACK  # then what is not found is farther away than that
    for i, instruction in enumerate(block):
        for register in instruction.reads:
            _count(out[0], i, written.get(register), complete)
        for register in instruction.writes:
            _count(out[1], i, read.get(register), complete)
            _count(out[2], i, written.get(register), complete)
        if instruction.loads:
            loads += 1
            chased += any(loaded.get(register, False) for register in instruction.address)
        _step(instruction, i, written, read, loaded)
    return chased, loads


def _count(histogram: NDArray[np.float64], i: int, producer: int | None, complete: bool) -> None:
    if producer is not None:
        histogram[dependence_bucket(i - producer)] += 1
    elif complete:
        histogram[-1] += 1


def _step(instruction: Decoded, i: int, written: dict[int, int], read: dict[int, int], loaded: dict[int, bool]) -> None:
    for register in instruction.reads:
        read[register] = i
    # what is computed from a loaded value alone (a copy, a sum with a constant) still is an address that was loaded
    from_load = instruction.loads or (len(instruction.reads) == 1 and loaded.get(instruction.reads[0], False))
    for register in instruction.writes:
        written[register] = i
        loaded[register] = from_load
