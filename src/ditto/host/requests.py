"""How many requests a run of the load made: one definition, the same for original and clone.

The client's own word comes first, for it alone knows: the pattern ``load.count`` of app.toml, then a few patterns that
common clients print.  A client that is told ``{requests}`` and prints no count is taken at its word; it may make that
many requests more than once (one pass for each kind of request), which the server's receives show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ditto import paths
from ditto.errors import AppError
from ditto.host.load import LoadResult

# Each finds one number a match; all matches of the first pattern that matches are added up.
_PATTERNS = (
    (r"^\s*([\d,]+) requests completed in", "requests completed"),
    (r"^\s*([\d,]+) requests in", "requests in"),
    (r"^\s*complete requests:\s*([\d,]+)", "complete requests"),
    (r"\bops:\s*([\d,]+)", "Ops"),
    (r"number of transactions actually processed:\s*([\d,]+)", "transactions actually processed"),
    (r"^[\s{]*\"?transactions\"?:\s*([\d,]+)", "transactions"),
    (r"^\s*queries sent:\s*([\d,]+)", "queries sent"),
    (r"^\s*queries completed:\s*([\d,]+)", "queries completed"),
    (r"^\s*queries:\s*([\d,]+)", "queries"),
    (r"^\s*([\d,]+) (?:queries|transactions) ", "queries or transactions"),
    (r"^\s*requests:\s*([\d,]+)", "requests"),
    (r"^\s*\[[1-5]\d\d\]\s+([\d,]+) responses", "responses"),
)


@dataclass(frozen=True)
class RequestCount:
    """Requests of one run, and how that is known."""

    requests: float
    how: str


@dataclass(frozen=True)
class Passes:
    """How often the client makes the number of requests it is asked for; from the original, used for both sides."""

    factor: float = 1.0
    how: str = "the number the client was asked for"


def count_requests(
    result: LoadResult, asked: int | None, pattern: str | None = None, passes: Passes | None = None
) -> RequestCount:
    """The requests that this run of the load made.

    Args:
        asked: what was put in place of ``{requests}``; None where the command takes no number.
        pattern: app.toml's ``load.count``: a regular expression with one group around the number.
        passes: see `Passes`.

    Raises:
        AppError: nothing tells the number.
    """
    text = result.stdout + "\n" + result.stderr
    if pattern is not None and not _is_generator(result):
        found = _sum_of(pattern, text)
        if found is None:
            raise AppError(f"load.count = {pattern!r} matches nothing that the load printed", "correct the pattern")
        return RequestCount(found, "printed by the client (load.count)")
    for expression, name in _PATTERNS:
        found = _sum_of(expression, text)
        if found:
            return RequestCount(found, f"printed by the client ({name})")
    if asked is not None:
        chosen = passes or Passes()
        return RequestCount(asked * chosen.factor, chosen.how)
    if result.makes is not None and not result.ended_by_us:
        return RequestCount(result.makes, "the number that app.toml gives (load.requests)")
    raise AppError(
        "the load prints no number of requests that is known",
        'give load.count = "regex" in app.toml, with one group around the number the client prints, or load.requests, '
        "the number that a run of it makes",
    )


def _is_generator(result: LoadResult) -> bool:
    """Whether the load generator stood in for the app's own client, for whose words the pattern is."""
    return Path(result.command[0]) == paths.loadgen_binary()


def _sum_of(expression: str, text: str) -> float | None:
    matches = [m.group(1) for m in re.finditer(expression, text, re.IGNORECASE | re.MULTILINE)]
    numbers = [float(m.replace(",", "")) for m in matches if m and re.fullmatch(r"[\d,]+(\.\d+)?", m)]
    return sum(numbers) if numbers else None


def passes_of(data_receives: float, asked: int) -> Passes:
    """How often ``asked`` fits into the receives that brought data, if that is nearly a whole number.

    A client with one mode after the other (``-t get,set``) makes the number of requests in each.  Fewer receives than
    requests (pipelining) or no whole number say nothing, and the client is taken at its word.
    """
    ratio = data_receives / asked if asked else 0.0
    whole = round(ratio)
    if whole >= 2 and abs(ratio - whole) <= 0.02 * whole:
        return Passes(float(whole), f"the number the client was asked for, {whole} times over (receives of the server)")
    return Passes()


def data_receives(calls: Mapping[str, tuple[float, float, float]]) -> float:
    """Receives that brought data, from calls by name as (calls, bytes, EAGAINs); files that are read count too."""
    names = ("read", "readv", "recvfrom", "recvmsg")
    return sum(calls[name][0] - calls[name][2] for name in names if name in calls)
