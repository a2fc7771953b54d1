"""From recorded connections to a load plan: where each request ends, and what comes once a connection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import ResultSeen
from ditto.artifacts.plan import Framing, LoadPlan, Script, Step, StepFlags, first_word
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.exchanges_sql import DATABASES, database_scripts
from ditto.host.framing import ReplyEnd, reply_framing
from ditto.host.history import starts_empty
from ditto.host.load import LoadResult
from ditto.host.requests_h2 import asked_of, script_of
from ditto.host.results import results_for
from ditto.host.spoken import Stream
from ditto.host.tap import Tap
from ditto.streams.fastcgi import request_end
from ditto.streams.pipelined import request_end as resp_end
from ditto.streams.protocol import recognise

MOST_STEPS = 100_000
ANSWERS = 1 << 20
"""Bytes of replies that are kept of each connection."""
OPENED_OFTEN = 0.3
"""Share of the later requests that must be of a request's kind for it to be no part of the opening."""
MOST_ADDRESSES = 64
ANSWERED = 0.5
"""Share of the datagrams of a kind that must have a reply for the others' to be lost."""
FRAMINGS = {
    "http1": Framing.HTTP1, "resp2": Framing.RESP2, "memcached": Framing.MEMCACHED, "pgsql": Framing.PGSQL,
    "mysql": Framing.MYSQL, "fastcgi": Framing.FASTCGI,
    "h2": Framing.H2,
}  # fmt: skip
_STORAGE = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")


@dataclass(frozen=True)
class RelayedLoad:
    """What a run of the client through a relay showed.

    Attributes:
        plan: what it sent.
        result: what it said.
        ended: how replies ended.
        results: what a database's replies held.
        starts_empty: it was told to a store that held nothing before.
    """

    plan: LoadPlan
    result: LoadResult
    ended: ReplyEnd
    results: list[ResultSeen]
    starts_empty: bool


def record_plan(run: AppRun, requests: int | None) -> RelayedLoad:
    """Run an app's client once against a started app, through a relay, and make a plan of what it sent.

    Raises:
        AppError: the client failed, sent nothing, or cannot be sent through a relay.
    """
    if not takes_relay(run.spec):
        raise AppError(
            f"{run.spec.name}: the load's command has no {{port}}, so its requests cannot be recorded",
            "put {port} in place of the port in load.command",
        )
    with Tap(run.port, run.host, answers=ANSWERS) as tap:
        result = run.load(requests, port=tap.port)
        seconds = tap.seconds
    if sum(len(s.turns) for s in tap.datagrams) > sum(len(s.turns) for s in tap.streams):
        plan = plan_of_datagrams(tap.datagrams)
    else:
        plan = plan_of(tap.streams, seconds)
    if not plan.requests:
        raise AppError(
            f"{run.spec.name}: the load sent nothing to the port it was given", "see its command in app.toml"
        )
    return RelayedLoad(
        plan,
        result,
        reply_framing(tap.streams),
        results_for(plan.framing, tap.streams),
        starts_empty(plan.framing, tap.streams),
    )


def takes_relay(spec: AppSpec) -> bool:
    """Whether the client goes to the port it is told."""
    return any("{port}" in word for word in spec.load.command)


def plan_of(streams: Sequence[Stream], seconds: float) -> LoadPlan:
    """A plan of the recorded connections; those that closed long before the end are closed by the plan as well."""
    spoken = [s for s in streams if s.turns]
    codec = recognise(
        [first[:64] for s in spoken if (first := _first_words(s))], [s.head[:64] for s in spoken if s.head]
    )
    framing = FRAMINGS.get(codec, Framing.BYTES)
    if framing in DATABASES:
        return LoadPlan(framing, database_scripts(framing, spoken, MOST_STEPS))
    if framing is Framing.H2:
        return LoadPlan(framing, _h2_scripts(spoken))
    scripts: list[Script] = []
    left = MOST_STEPS
    for stream in spoken:
        steps = list(_steps(framing, stream))[: max(0, left)]
        if not steps:
            continue
        left -= len(steps)
        if stream.closed_s is not None and stream.closed_s < 0.9 * seconds:
            steps[-1] = Step(steps[-1].request, steps[-1].reply, steps[-1].flags | StepFlags.CLOSE)
        scripts.append(Script(tuple(steps), _opening(steps) if framing is Framing.BYTES else 0))
    return LoadPlan(framing, tuple(scripts))


def _h2_scripts(streams: Sequence[Stream]) -> tuple[Script, ...]:
    """Their requests one after the other, however many were under way at a time."""
    scripts, left = [], MOST_STEPS
    for stream in streams:
        if asked := asked_of(stream.said)[: max(0, left)]:
            left -= len(asked)
            scripts.append(script_of(asked))
    return tuple(scripts)


def plan_of_datagrams(streams: Sequence[Stream]) -> LoadPlan:
    """A plan of recorded datagrams, of which there is one at least.

    Clients' addresses mean little: those of many are joined, each with its datagrams in order.
    """
    turns = [turn for stream in streams for turn in stream.turns]
    heads, answers = [request[:64] for request, _ in turns[:1000]], [stream.head[:64] for stream in streams]
    framing = Framing.DNS if recognise(heads, [head for head in answers if head]) == "dns" else Framing.DATAGRAM
    asked = Counter(_datagram_kind(request) for request, _ in turns)
    answered = Counter(_datagram_kind(request) for request, reply in turns if reply)
    joined: list[list[Step]] = [[] for _ in range(min(len(streams), MOST_ADDRESSES))]
    for number, stream in enumerate(streams):
        for request, reply in stream.turns:
            kind = _datagram_kind(request)
            silent = answered[kind] < ANSWERED * asked[kind]
            joined[number % len(joined)].append(Step(request, reply, StepFlags.NOREPLY if silent else StepFlags.NONE))
    most = MOST_STEPS // len(joined)
    return LoadPlan(framing, tuple(Script(tuple(steps[:most])) for steps in joined if steps))


def _datagram_kind(request: bytes) -> tuple[bytes, int]:
    return first_word(request), len(request).bit_length()


def _first_words(stream: Stream) -> bytes:
    """What a client says first, which may be after the server."""
    return next((request for request, _ in stream.turns if request), b"")


def _steps(framing: Framing, stream: Stream) -> Iterator[Step]:
    if framing is Framing.BYTES:
        for request, reply in stream.turns:
            yield Step(request, reply, StepFlags.NONE if reply else StepFlags.NOREPLY)
        return
    data = b"".join(request for request, _ in stream.turns)
    splitter = {Framing.HTTP1: _http, Framing.RESP2: _resp, Framing.MEMCACHED: _memcached,
                Framing.FASTCGI: _fastcgi}[framing]  # fmt: skip
    at = 0
    while at < len(data):
        found = splitter(data, at)
        if found is None:
            return
        end, flags = found
        yield Step(data[at:end], 0, flags)
        at = end


Found = tuple[int, StepFlags] | None
"""Where a request ends, and its flags; None: it is not all there."""


def _http(data: bytes, at: int) -> Found:
    head_end = data.find(b"\r\n\r\n", at)
    if head_end < 0:
        return None
    head = data[at : head_end + 2]
    end = head_end + 4
    flags = StepFlags.NOBODY if head.startswith(b"HEAD ") else StepFlags.NONE
    if re.search(rb"(?im)^connection:[^\r]*\bclose\b", head) or head.split(b"\r\n", 1)[0].endswith(b"HTTP/1.0"):
        flags |= StepFlags.CLOSE
    if length := re.search(rb"(?im)^content-length:\s*(\d{1,12})", head):
        end += int(length[1])
    elif re.search(rb"(?im)^transfer-encoding:[^\r]*\bchunked\b", head):
        last = data.find(b"0\r\n\r\n", end)
        end = last + 5 if last >= 0 else len(data) + 1
    return (end, flags) if end <= len(data) else None


def _resp(data: bytes, at: int) -> Found:
    line = data.find(b"\r\n", at)
    end = resp_end(data, at) if data[at : at + 1] == b"*" else line + 2 if line >= 0 else None
    return (end, StepFlags.NONE) if end is not None and end <= len(data) else None


def _memcached(data: bytes, at: int) -> Found:
    line = data.find(b"\n", at)
    if line < 0:
        return None
    words = data[at:line].split()
    end = line + 1
    if words and words[0] in _STORAGE and len(words) > 4:
        end += int(words[4]) + 2
    elif words and words[0] == b"ms" and len(words) > 2:
        end += int(words[2]) + 2
    flags = StepFlags.NOREPLY if words and words[-1] == b"noreply" else StepFlags.NONE
    return (end, flags) if end <= len(data) else None


def _fastcgi(data: bytes, at: int) -> Found:
    end = request_end(data, at)
    kept = data[at + 10 : at + 11] == b"\1"
    return (end, StepFlags.NONE if kept else StepFlags.CLOSE) if end is not None else None


def _opening(steps: Sequence[Step]) -> int:
    """Leading requests of kinds that hardly come again: a handshake."""
    kinds = [(step.request[:1], len(step.request).bit_length()) for step in steps]
    counts = Counter(kinds)
    for number, kind in enumerate(kinds[:-1]):
        if counts[kind] >= max(2, OPENED_OFTEN * (len(kinds) - number)):
            return number
    return 0
