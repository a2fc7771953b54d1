"""Calls to other services in a program: which requests make them, and that they are awaited."""

from __future__ import annotations

from ditto.artifacts.profile import Op, OpKind

USUAL_CALL = 0.9
ODD_CALLS = 0.03


def settled_calls(program: list[Op]) -> list[Op]:
    """The program with every call awaited, and calls that nearly all requests make made by all.

    Where requests make as many calls as there are usual ones, those that a few seem to make beside them are some that
    were given to the wrong request.
    """
    calls = [op for op in program if op.kind is OpKind.CALL]
    usual = [op for op in calls if op.probability >= USUAL_CALL]
    whole = abs(sum(op.probability for op in calls) - len(usual)) <= ODD_CALLS * len(usual)
    links = {op.link for op in usual} if usual and whole else {op.link for op in calls}
    settled = []
    asked: dict[int | None, float] = {}
    for op in program:
        if op.link is not None and calls and op.link not in links:
            continue
        if op.kind is OpKind.CALL and whole and op.probability < USUAL_CALL:
            continue
        if op.kind is OpKind.ANSWER or (op.kind is OpKind.CALL and whole):
            op = op.model_copy(update={"probability": 1.0})  # without a call it does nothing
        if op.kind is OpKind.CALL:
            asked[op.link] = op.probability
        elif op.kind is OpKind.POLL and op.b and op.link in asked:
            # Neither does a wait for the reply: it is done as often as there is one to wait for.
            op = op.model_copy(update={"probability": min(1.0, op.probability / max(1e-9, asked[op.link]))})
        settled.append(op)
    return after_calls(settled)


def after_calls(program: list[Op]) -> list[Op]:
    """The program with what is done to a connection ahead of its first call put right after it.

    It is the call that takes a connection, so that before it there is none that anything could be done to.
    """
    made: list[Op] = []
    waiting: dict[int, list[Op]] = {}
    called: set[int] = set()
    calls = {op.link for op in program if op.kind is OpKind.CALL}
    for op in program:
        if op.link is not None and op.link in calls and op.link not in called and op.kind is not OpKind.CALL:
            waiting.setdefault(op.link, []).append(op)
            continue
        made.append(op)
        if op.kind is OpKind.CALL and op.link is not None:
            called.add(op.link)
            made += waiting.pop(op.link, [])
    return made
