"""Correcting instruction counts: lens on the clone against lens on the original, class by class.

What the skeleton executes is measured once with empty blocks and taken off; what is left between body and target
after that (rounding, prologues, the cost of calling blocks) is corrected in further rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ditto.artifacts.profile import Block, OpKind, Profile, RequestClass, ServiceProfile
from ditto.streams.cycles import Work
from ditto.streams.evidence import requests_of
from ditto.streams.instructions import InstructionRun
from ditto.streams.matching import class_index

WAKE = -1
"""Stands for the work at the beginning and the end of a wake-up in tables by class."""


@dataclass(frozen=True)
class ClassCost:
    """Instructions of one request of a class (of one wake-up for WAKE), and how many were seen."""

    instructions: float
    count: int


def costs_of(service: ServiceProfile, run: InstructionRun) -> dict[int, ClassCost]:
    """Mean instructions by class of the profile, and by wake-up."""
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for key, cycles in requests_of(run.work, service.codec).classes.items():
        index = class_index(service, key)
        if index < 0:
            continue
        for cycle in cycles:
            sums[index] = sums.get(index, 0.0) + sum(e.gap for e in cycle.events if e.gap > 0)
            counts[index] = counts.get(index, 0) + 1
    costs = {index: ClassCost(sums[index] / counts[index], counts[index]) for index in sums}
    wakes, total = _wakes(run.work)
    if wakes:
        costs[WAKE] = ClassCost(total / wakes, wakes)
    return costs


def _wakes(work: Work) -> tuple[int, float]:
    count, total = 0, 0.0
    for thread in work.threads.values():
        for wake in thread.wakes:
            if wake.wait is not None and wake.received and wake.wait.gap >= 0:
                count += 1
                total += wake.wait.gap
    return count, total


def blocks_of(cls: RequestClass) -> dict[int, float]:
    """The blocks of a class with the mean number of times one request runs each."""
    found: dict[int, float] = {}
    for op in cls.program:
        if op.kind is OpKind.COMPUTE and op.block is not None:
            found[op.block] = found.get(op.block, 0.0) + op.probability
    return found


def subtract_skeleton(
    profile: Profile, original: Mapping[int, ClassCost], skeleton: Mapping[int, ClassCost]
) -> Profile:
    """Take what the skeleton executes off the blocks, so that class by class their sum is what is missing."""
    service = profile.services[0]
    blocks = list(service.blocks)
    for index, cls in enumerate(service.classes):
        if index not in original:
            continue
        spent = skeleton[index].instructions if index in skeleton else _typical(skeleton)
        _set_body(blocks, blocks_of(cls), original[index].instructions - spent)
    for block in _wake_blocks(service):
        if WAKE in original and WAKE in skeleton:
            _set_body(blocks, {block: 1.0}, original[WAKE].instructions - skeleton[WAKE].instructions)
    return _with_blocks(profile, blocks)


def correct(profile: Profile, original: Mapping[int, ClassCost], clone: Mapping[int, ClassCost]) -> Profile:
    """Move each class's body by what the clone executed too little or too much."""
    service = profile.services[0]
    blocks = list(service.blocks)
    for index, cls in enumerate(service.classes):
        if index in original and index in clone:
            missing = original[index].instructions - clone[index].instructions
            weights = blocks_of(cls)
            _set_body(blocks, weights, _body(blocks, weights) + missing)
    for block in _wake_blocks(service):
        if WAKE in original and WAKE in clone:
            missing = original[WAKE].instructions - clone[WAKE].instructions
            _set_body(blocks, {block: 1.0}, _body(blocks, {block: 1.0}) + missing)
    return _with_blocks(profile, blocks)


def worst_error(original: Mapping[int, ClassCost], clone: Mapping[int, ClassCost]) -> float:
    """Relative error of the instructions per request over all classes, weighted as the original's requests are."""
    classes = [index for index in original if index != WAKE and index in clone]
    wanted = sum(original[i].instructions * original[i].count for i in classes)
    got = sum(clone[i].instructions * original[i].count for i in classes)
    return got / wanted - 1 if wanted else 0.0


def _typical(skeleton: Mapping[int, ClassCost]) -> float:
    values = [cost.instructions for index, cost in skeleton.items() if index != WAKE]
    return sum(values) / len(values) if values else 0.0


def _wake_blocks(service: ServiceProfile) -> list[int]:
    return sorted({role.on_wake_block for role in service.roles if role.on_wake_block is not None})


def _body(blocks: list[Block], weights: Mapping[int, float]) -> float:
    return sum(max(0.0, blocks[b].instructions - blocks[b].skeleton_instructions) * w for b, w in weights.items())


def _set_body(blocks: list[Block], weights: Mapping[int, float], wanted: float) -> None:
    """Make the blocks' bodies sum up to ``wanted`` instructions a request, in proportion to their size.

    A block's target may exceed what was measured between its two calls: the skeleton, or work too small for a block of
    its own, may lie elsewhere in the request.
    """
    whole = sum(blocks[b].instructions * w for b, w in weights.items())
    if whole <= 0:
        return
    factor = max(0.0, wanted / whole)
    for b in weights:
        block = blocks[b]
        if factor <= 1:
            blocks[b] = block.model_copy(update={"skeleton_instructions": block.instructions * (1 - factor)})
        else:
            blocks[b] = grown(block, factor)


_SCALED = ("instructions", "loads", "stores", "code_touches", "branches", "predictor_misses", "indirect", "calls")
_SCALED_LISTS = ("load_distance", "store_distance", "code_distance", "page_distance", "branch_bins")


def grown(block: Block, factor: float) -> Block:
    """A block of ``factor`` times the work, made alike."""
    update: dict[str, object] = {name: getattr(block, name) * factor for name in _SCALED}
    update |= {name: [v * factor for v in getattr(block, name)] for name in _SCALED_LISTS}
    update["skeleton_instructions"] = 0.0
    return block.model_copy(update=update)


def _with_blocks(profile: Profile, blocks: list[Block]) -> Profile:
    service = profile.services[0].model_copy(update={"blocks": blocks})
    return profile.model_copy(update={"services": [service, *profile.services[1:]]})


def total_per_request(run: InstructionRun) -> float:
    """All user instructions of a run by its requests."""
    return run.instructions / max(1, run.gaps.requests)


