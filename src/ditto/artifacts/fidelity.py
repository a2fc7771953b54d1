"""Fidelity: how far original and clone differ, metric by metric, beside how far the original differs from itself.

The file (``fidelity.json``) is complete: every sample behind every figure is in it, so that a report can be drawn
again from the file alone.  It holds no path of the app.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ditto.artifacts.files import write_atomic
from ditto.artifacts.machine import MachineFacts
from ditto.artifacts.reading import read_model
from ditto.artifacts.study import Study
from ditto.artifacts.verdict import Bound, Verdict, judge
from ditto.errors import BadInputError

FORMAT_VERSION = 1

NOT_AVAILABLE = "not available here: "
"""How the ``how`` of a record begins whose figure could not be had."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Frozen):
    """A 95 % bootstrap interval of an error, in the error's own kind (relative or absolute)."""

    low: float
    high: float


class Record(_Frozen):
    """One metric of both sides.

    Attributes:
        metric: dotted name, such as ``cpu.user_ns_per_request``.
        unit: of ``original``, ``clone`` and ``empty_body``.
        group: heading it belongs under.
        original, clone: medians over the runs; None where there is no figure.
        empty_body: the clone without its compute bodies (its skeleton alone).
        error_kind: ``relative`` (clone / original - 1), or ``absolute`` (clone - original, in ``unit``) where the
            original is too near 0 for a quotient.
        error: signed, of that kind.
        interval: of ``error``.
        noise: the original against itself, of the kind of ``error``, at least 0; see `ditto.validate.statistics`.
        how: ``measured: ...``, ``modelled: ...`` or ``not available here: ...``.
    """

    metric: str
    unit: str
    group: str
    original: float | None = None
    clone: float | None = None
    empty_body: float | None = None
    error_kind: Literal["relative", "absolute"] = "relative"
    error: float | None = None
    interval: Interval | None = None
    noise: float | None = None
    bound: Bound | None = None
    verdict: Verdict = Verdict.NOT_AVAILABLE
    how: str

    @property
    def too_noisy(self) -> bool:
        """Whether the noise is larger than the bound: the figure cannot be judged as finely as asked."""
        if self.noise is None or self.bound is None or self.bound.noise_multiple is not None:
            return False
        relative, absolute = self.bound.relative, self.bound.absolute
        if self.error_kind == "absolute":
            return absolute is not None and self.noise > absolute
        if absolute is not None and self.original and self.noise * abs(self.original) <= absolute:
            return False
        return relative is not None and self.noise > relative


class Samples(_Frozen):
    """The value of one metric in each run, in the order of the runs."""

    original: list[float] = []
    clone: list[float] = []
    empty_body: list[float] = []


class Curve(_Frozen):
    """Miss ratio of a fully associative LRU cache against its size.

    Attributes:
        name: ``loads``, ``stores``, ``code`` or ``pages``.
        sizes_bytes: cache sizes, ascending.
        original, clone, empty_body: misses per access (0 to 1), one a size; empty where not available.
    """

    name: str
    sizes_bytes: list[int]
    original: list[float] = []
    clone: list[float] = []
    empty_body: list[float] = []


class MixShare(_Frozen):
    """Share of the executed user instructions that are of one class (0 to 1)."""

    name: str
    original: float
    clone: float
    empty_body: float | None = None


class Histogram(_Frozen):
    """How what was executed spreads over the buckets of one property.

    Attributes:
        name: ``branch_taken`` and ``branch_transition`` (executions of conditional branches by how often their static
            branch is taken, and goes the other way than the time before), ``raw``, ``war`` and ``waw`` (register
            dependences by distance in instructions).
        labels: of the buckets.
        original, clone, empty_body: shares, one a bucket; empty where not available.
    """

    name: str
    labels: list[str]
    original: list[float] = []
    clone: list[float] = []
    empty_body: list[float] = []


class ThreadLine(_Frozen):
    """One thread: what it did, and the share of each part of the time for which it was on a processor (0 to 1)."""

    role: str
    busy: list[float]


class Timeline(_Frozen):
    """When the threads of both sides ran, each over one run of the client.

    Attributes:
        original_ms, clone_ms: length of one part of the time, milliseconds.
        original, clone: their threads, at most as many as can be looked at, the busiest.
        original_more, clone_more: threads that are left out.
    """

    original_ms: float
    clone_ms: float
    original: list[ThreadLine]
    clone: list[ThreadLine]
    original_more: int = 0
    clone_more: int = 0


class SyscallRow(_Frozen):
    """One system call, per request: calls, bytes moved, and calls that returned EAGAIN."""

    name: str
    nr: int
    original: float
    clone: float
    empty_body: float | None = None
    original_bytes: float = 0.0
    clone_bytes: float = 0.0
    original_again: float = 0.0
    clone_again: float = 0.0


class RoleCount(_Frozen):
    """Threads that do one kind of work, on both sides."""

    name: str
    original: int
    clone: int


class LatencySide(_Frozen):
    """Latency of one side at one load level, over its runs.

    Attributes:
        rate: replies a second, median.
        median_ns, least_ns, most_ns: at each of the point's percents, nanoseconds from the intended send time.
    """

    rate: float
    median_ns: list[float]
    least_ns: list[float]
    most_ns: list[float]


class LatencyPoint(_Frozen):
    """One load level.

    Attributes:
        share: of the original's saturation; 1 is a closed loop.
        offered: requests a second; None in the closed loop.
        percents: of the percentiles, ascending.
    """

    share: float
    offered: float | None
    percents: list[float]
    original: LatencySide
    clone: LatencySide


class TuningRound(_Frozen):
    """One round of tuning.

    Attributes:
        phase: what was compared.
        number: from 0 in its phase.
        error: relative, of what the phase compares.
        change: what was done about it.
        errors: by figure, in units of its bound.
    """

    phase: str
    number: int
    error: float
    change: str
    errors: dict[str, float] = {}


class Conditions(_Frozen):
    """Under what the figures were taken.

    Attributes:
        requests: per timed run, as the client counts them; 0 where the load is bound by time.
        load: the load's command, paths left out.
        counted: how the number of requests of a run was had.
        order: the order of the timed runs, such as ``A B C A B C`` (A original, B clone, C empty body).
        parts: that each of these consists of.
        together: whether the sides of a round stood at once, and took turns part by part.
    """

    connections: int
    rounds: int
    seconds: float
    requests: int
    load: str
    counted: str
    order: str
    parts: int = 1
    together: bool = False


class Dropped(_Frozen):
    """Something that was lost or left out, and how often."""

    what: str
    count: int


class Unavailable(_Frozen):
    """Something that could not be had here, why, and what would add it."""

    what: str
    why: str
    remedy: str = ""


class Summary(_Frozen):
    """Records by verdict.

    Attributes:
        too_noisy: of those inside the noise, how many have a noise floor wider than their bound, so that being inside
            it says less than was asked.
    """

    inside_noise: int
    inside_bound: int
    outside: int
    no_bound: int
    not_available: int
    too_noisy: int

    @property
    def judged(self) -> int:
        """Records that have a verdict on their closeness."""
        return self.inside_noise + self.inside_bound + self.outside

    def __str__(self) -> str:
        return (
            f"{self.inside_noise} inside the noise ({self.too_noisy} of them with noise beyond the bound), "
            f"{self.inside_bound} inside the bound, {self.outside} outside, "
            f"{self.no_bound} without a bound, {self.not_available} not available"
        )


class Fidelity(_Frozen):
    """The whole comparison; see the module.

    Attributes:
        app: the app's name (may be a neutral one).
        when: start of the comparison, ISO 8601 in UTC.
        raw: the samples behind each record, by metric.
    """

    format_version: Literal[1] = 1
    app: str
    when: str
    machine: MachineFacts = MachineFacts()
    conditions: Conditions
    records: list[Record]
    curves: list[Curve] = []
    mix: list[MixShare] = []
    histograms: list[Histogram] = []
    timeline: Timeline | None = None
    syscall_table: list[SyscallRow] = []
    roles: list[RoleCount] = []
    latency: list[LatencyPoint] = []
    tuning: list[TuningRound] = []
    studies: list[Study] = []
    dropped: list[Dropped] = []
    unavailable: list[Unavailable] = []
    raw: dict[str, Samples] = {}

    @property
    def summary(self) -> Summary:
        """How many records have each verdict."""
        counts = Counter(record.verdict for record in self.records)
        return Summary(
            inside_noise=counts[Verdict.INSIDE_NOISE],
            inside_bound=counts[Verdict.INSIDE_BOUND],
            outside=counts[Verdict.OUTSIDE],
            no_bound=counts[Verdict.NO_BOUND],
            not_available=counts[Verdict.NOT_AVAILABLE],
            too_noisy=sum(r.too_noisy and r.verdict is Verdict.INSIDE_NOISE for r in self.records),
        )

    def record(self, metric: str) -> Record | None:
        """The record of a metric, or None."""
        return next((record for record in self.records if record.metric == metric), None)

    def beyond(self, max_error: float | None = None) -> list[Record]:
        """Records outside their bound; with ``max_error``, bounded relative ones beyond it and beyond the noise."""
        if max_error is None:
            return [record for record in self.records if record.verdict is Verdict.OUTSIDE]
        return [
            record
            for record in self.records
            if record.bound is not None
            and record.error is not None
            and record.error_kind == "relative"
            and judge(
                record.error, record.error_kind, record.original, record.noise,
                record.bound.model_copy(update={"relative": max_error}),
            )
            is Verdict.OUTSIDE
        ]  # fmt: skip

    def save(self, path: Path) -> None:
        """Write as JSON, replacing the file as a whole."""
        write_atomic(path, self.model_dump_json(indent=1) + "\n")


def without_paths(words: Iterable[str]) -> str:
    """A command as one line, with everything that looks like a path or an address' path left out.

    The program keeps its last part; ``http://127.0.0.1:80/a/b`` becomes ``{url}``; other words with a slash ``{path}``.
    """
    shown = []
    for index, word in enumerate(words):
        if index == 0:
            shown.append(word.rsplit("/", 1)[-1])
        elif re.match(r"[a-z][a-z0-9+.-]*://", word):
            shown.append("{url}")
        elif "/" in word:
            option, equals, _ = word.partition("=")
            shown.append(f"{option}={{path}}" if equals and "/" not in option else "{path}")
        else:
            shown.append(word if re.fullmatch(r"[!-~]+", word) else "{text}")
    return " ".join(shown)


def load_fidelity(path: Path) -> Fidelity:
    """Read and check a ``fidelity.json``.

    Raises:
        BadInputError: unreadable, not JSON, or not of this shape; names the place.
        FormatVersionError: another format version.
    """
    return read_model(path, Fidelity, FORMAT_VERSION, "name a fidelity.json made by 'ditto validate'")


class _Tuning(_Frozen):
    format_version: Literal[1]
    rounds: list[TuningRound]


def load_tuning(path: Path) -> list[TuningRound]:
    """The rounds in a ``tuning.json``; none where there is no file.

    Raises:
        BadInputError: not of this shape.
    """
    if not path.is_file():
        return []
    try:
        return _Tuning.model_validate_json(path.read_bytes()).rounds
    except ValidationError as error:
        raise BadInputError(f"{path}: not a list of tuning rounds", "make it again: ditto tune OUT") from error
