"""What requests of a kind call next, learned from those that were the only ones of their process.

It tells which of several requests under way made a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ditto.topology.recorded.connections import Exchange

Place = tuple[str, tuple[str, ...], int]
"""Kind of request, the calls it has made so far, and how many of them are not answered."""

_ENOUGH = 3
# A kind of request that was never alone may call anything.
_UNKNOWN = 0.1
# Where earlier guesses have put a request at a place that its kind never is at, or never calls from, what it calls at
# all still counts; least of all what it never calls.
_STRANGE = 0.05
_NEVER = 0.001
_LEAST = 1e-6
# A request whose chance is not much smaller than the best one's may well have made the call.
_LIKELY = 0.5
_MOST_CALLS = 64


def kind_of(exchange: Exchange) -> str:
    """The kind of a request: where the server listens, and what it asks for."""
    return f"{exchange.connection.place.replace(' ', '_')} {exchange.name}"


class Courses:
    """How often requests were at a place of their course, and what they called from there."""

    def __init__(self) -> None:
        self._visits: Counter[tuple[object, ...]] = Counter()
        self._calls: Counter[tuple[tuple[object, ...], str]] = Counter()
        self._ends: Counter[tuple[str, bool]] = Counter()
        self._ever: Counter[tuple[str, str, int]] = Counter()

    def learn(self, exchange: Exchange, calling: bool, kinds: Mapping[str, str]) -> None:
        """Take in one request that was alone, from its beginning to its reply.

        Args:
            calling: whether a call of it was under way when its reply began.
            kinds: other names for some kinds.
        """
        kind = kinds.get(kind_of(exchange), kind_of(exchange))
        self._ends[kind, calling] += 1
        for target, count in Counter(kinds.get(target, target) for target in exchange.made).items():
            self._ever.update((kind, target, before) for before in range(count))
        for (_, made, under_way), call in exchange.course:
            place = (kind, tuple(kinds.get(target, target) for target in made), under_way)
            called = kinds.get(call, call)
            for key in (place, _short(place)):
                if called:
                    self._calls[key, called] += 1
                else:
                    self._visits[key] += 1

    def chance(self, exchange: Exchange, target: str) -> float:
        """How likely a request where it is now makes this call next."""
        kind = kind_of(exchange)
        seen = self._ends[kind, False] + self._ends[kind, True]
        if not seen:
            return _UNKNOWN
        ever = self._ever[kind, target, exchange.made.count(target)] / seen
        place = place_of(exchange)
        for key in (place, _short(place)):
            visits = self._visits[key]
            if visits >= _ENOUGH:
                return max(_LEAST, _NEVER * ever, min(1.0, self._calls[key, target] / visits))
        return max(_LEAST, _STRANGE * ever)

    def waits(self, exchange: Exchange) -> bool:
        """Whether requests of this kind are answered only after all their calls are."""
        kind = kind_of(exchange)
        return self._ends[kind, False] > 20 * self._ends[kind, True]

    def choose(self, candidates: list[Exchange], target: str) -> tuple[Exchange, bool]:
        """The request that makes a call, and whether one of another kind or place might have made it as well.

        Among those that are about as likely, the one that has been able to go on for the longest: loops work in order.
        """
        chances = [(self.chance(exchange, target), exchange) for exchange in candidates]
        best = max(chance for chance, _ in chances)
        likely = [exchange for chance, exchange in chances if chance >= _LIKELY * best]
        chosen = min(likely, key=lambda exchange: exchange.moved)
        place = place_of(chosen)
        doubtful = best < _UNKNOWN or any(
            chance >= 0.1 * best and place_of(exchange) != place for chance, exchange in chances
        )
        return chosen, doubtful


def place_of(exchange: Exchange) -> Place:
    """Where a request is in its course."""
    return kind_of(exchange), tuple(exchange.made), exchange.under_way


def _short(place: Place) -> tuple[object, ...]:
    """A place that forgets all but the last call, for courses that are long or rare."""
    kind, made, under_way = place
    return kind, made[-1] if made else "", min(1, under_way)


def arrived(exchange: Exchange, at: int) -> None:
    """A request begins its course."""
    exchange.moved = at
    _visit(exchange)


def swap(exchange: Exchange, others: list[Exchange], courses: Courses) -> None:
    """A request is answered before calls that it should have waited for: they were another's.

    Each is exchanged for one of the same kind that is answered and was given to another request, the nearest in time;
    if there is none, it goes to the likeliest other request.
    """
    for call in [call for call in exchange.calls if not call.returned]:
        best: tuple[int, Exchange, Exchange] | None = None
        for other in others:
            if other is exchange or call.called < other.arrived:
                continue
            for mine in other.calls:
                if mine.returned and mine.called >= exchange.arrived and kind_of(mine) == kind_of(call):
                    apart = abs(mine.called - call.called)
                    if best is None or apart < best[0]:
                        best = (apart, other, mine)
        if best is None:
            _move(call, exchange, [other for other in others if other is not exchange], courses)
            continue
        _, other, mine = best
        other.calls[other.calls.index(mine)] = call
        exchange.calls[exchange.calls.index(call)] = mine
        call.parent, mine.parent = other, exchange
        exchange.under_way -= 1
        other.under_way += 1


def _move(call: Exchange, exchange: Exchange, others: list[Exchange], courses: Courses) -> None:
    """Give a call to another request that was under way when it was made."""
    target = kind_of(call)
    able = [other for other in others if other.arrived <= call.called]
    if not able:
        return
    other, _ = courses.choose(able, target)
    if courses.chance(other, target) <= _NEVER:
        return
    place = exchange.calls.index(call)
    del exchange.calls[place]
    if place < len(exchange.made):
        del exchange.made[place]
    exchange.under_way -= 1
    call.parent = other
    called(other, call)


def called(exchange: Exchange, call: Exchange) -> None:
    """A request makes a call."""
    target = kind_of(call)
    exchange.calls.append(call)
    if exchange.alone:
        exchange.course.append((place_of(exchange), target))
    if len(exchange.made) < _MOST_CALLS:
        exchange.made.append(target)
    exchange.under_way += 1
    _visit(exchange)


def returned(call: Exchange, at: int) -> None:
    """A piece of the reply to a call is there; the request that made it can go on."""
    exchange = call.parent
    if exchange is None:
        return
    exchange.moved = at
    if not call.counted:
        call.counted = True
        exchange.under_way -= 1
        _visit(exchange)


def _visit(exchange: Exchange) -> None:
    if exchange.alone:
        exchange.course.append((place_of(exchange), ""))
