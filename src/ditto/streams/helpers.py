"""Threads that wait until another thread wakes them, do some work and wait again, without a request of their own."""

from __future__ import annotations

from collections import defaultdict

from ditto.streams.cycles import FUTEX, Work
from ditto.streams.events import Event, Obj
from ditto.streams.sharing import is_parked

WORD_BYTES = 64
"""Futex words so near to each other are of one condition."""
OFTEN = 0.002
"""A thread that is woken in fewer than this share of the requests is idle."""


def find_helpers(work: Work) -> set[int]:
    """Helping threads; the wake-ups that concern them are marked: their ``target`` is an object of kind helper.

    A thread is one if it neither serves, accepts, sleeps nor waits for descriptors, and is woken often by a thread of
    its process that does.
    """
    requests = sum(len(thread.cycles) for thread in work.threads.values())
    words: dict[tuple[int, int], set[int]] = defaultdict(set)
    woken: dict[int, int] = defaultdict(int)
    for tid, thread in work.threads.items():
        if thread.cycles or thread.accepts or thread.sleeps or len(thread.wakes) > 1:
            continue
        for event in thread.parks:
            if event.nr == FUTEX and is_parked(event):
                words[(event.pid, event.args[0] // WORD_BYTES)].add(tid)
                woken[tid] += event.ret == 0
    helpers: set[int] = set()
    marks: list[Event] = []
    for thread in work.threads.values():
        for event in thread.events:
            if event.nr == FUTEX and not is_parked(event) and event.ret > 0 and thread.tid not in woken:
                waiting = words.get((event.pid, event.args[0] // WORD_BYTES), set())
                found = {tid for tid in waiting if woken[tid] >= max(2.0, OFTEN * requests)}
                if found:
                    helpers |= found
                    marks.append(event)
    helper = Obj("helper", 0)
    for event in marks:
        event.target = event.target or helper  # it may be known already what the wake-up tells
    return helpers
