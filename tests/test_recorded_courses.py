"""Which of several requests under way made a call, from what requests of their kinds did alone."""

from __future__ import annotations

from ditto.topology.recorded.connections import Connection, Exchange
from ditto.topology.recorded.courses import Courses, arrived, called, kind_of, returned, swap

ENTRY, BACK = Connection(None, "80", server=1), Connection(None, "90", client=1, server=2)


def request(name: str, at: int) -> Exchange:
    """A request that arrives."""
    exchange = Exchange(ENTRY, name, False, server=1, arrived=at)
    arrived(exchange, at)
    return exchange


def call(parent: Exchange, name: str, at: int) -> Exchange:
    """A call that a request makes."""
    made = Exchange(BACK, name, False, caller=1, server=2, parent=parent, called=at)
    called(parent, made)
    return made


def answer(made: Exchange, at: int) -> None:
    """The reply to a call."""
    made.answered = made.returned = at
    returned(made, at)


def learned() -> Courses:
    """A chain calls /a, waits, and calls /b; a pair calls /b and /c at once; one in two of a lone kind calls /a."""
    courses = Courses()
    for turn in range(10):
        chain = request("GET /chain", 1)
        for name in ("GET /a", "GET /b"):
            answer(call(chain, name, 2), 3)
        pair = request("GET /pair", 1)
        for made in [call(pair, name, 2) for name in ("GET /b", "GET /c")]:
            answer(made, 3)
        lone = request("GET /lone", 1)
        if turn % 2:
            answer(call(lone, "GET /a", 2), 3)
        for exchange in (chain, pair, lone):
            courses.learn(exchange, False, {})
    return courses


def test_a_request_makes_the_call_that_is_next_in_its_course() -> None:
    courses = learned()
    chain, pair = request("GET /chain", 1), request("GET /pair", 2)
    assert courses.choose([chain, pair], "90 GET /a") == (chain, False)
    assert courses.choose([chain, pair], "90 GET /b") == (pair, False)
    answer(call(chain, "GET /a", 3), 4)
    call(pair, "GET /b", 5)
    assert courses.choose([chain, pair], "90 GET /b") == (chain, False)
    assert courses.choose([chain, pair], "90 GET /c") == (pair, False)


def test_one_that_waits_does_not_go_on() -> None:
    courses = learned()
    first, second = request("GET /chain", 1), request("GET /chain", 2)
    call(first, "GET /a", 3)
    answer(call(second, "GET /a", 4), 5)
    assert courses.choose([first, second], "90 GET /b")[0] is second


def test_of_equals_the_one_that_could_go_on_first_does() -> None:
    courses = learned()
    first, second = request("GET /chain", 1), request("GET /chain", 2)
    assert courses.choose([second, first], "90 GET /a") == (first, False)


def test_what_two_kinds_may_do_is_a_guess() -> None:
    courses = learned()
    chain, lone = request("GET /chain", 1), request("GET /lone", 2)
    assert courses.choose([chain, lone], "90 GET /a") == (chain, True)


def test_a_kind_never_gets_a_call_more_often_than_it_makes_it() -> None:
    courses = learned()
    chain, lone = request("GET /chain", 1), request("GET /lone", 2)
    answer(call(lone, "GET /a", 3), 4)
    call(chain, "GET /b", 5)  # an earlier guess was wrong: the chain is where no chain ever is
    assert courses.choose([chain, lone], "90 GET /a")[0] is chain


def test_a_request_answered_too_early_gets_its_own_call_back() -> None:
    courses = learned()
    first, second = request("GET /chain", 1), request("GET /chain", 2)
    swapped, own = call(first, "GET /a", 3), call(second, "GET /a", 4)
    answer(own, 5)
    swap(first, [first, second], courses)
    assert (own.parent, swapped.parent) == (first, second)
    assert (first.under_way, second.under_way) == (0, 1)
    assert first.calls == [own] and second.calls == [swapped]
    assert kind_of(own) == "90 GET /a"
