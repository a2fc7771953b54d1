"""Driving a server with the load generator (native/loadgen), and what it measured."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from ditto import paths
from ditto.artifacts.plan import Arrivals
from ditto.errors import AppError, BadInputError, MissingCapabilityError

LATE_NS = 1_000_000
"""Sends that leave later than this behind their schedule, with a connection free, are the generator's own doing."""
SHORT_OF_RATE = 0.02
_LARGEST_NS = 137_000_000_000
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Offered:
    """The load to offer.

    Attributes:
        rate: requests a second; None for a closed loop, or where a file gives it.
        burst: (on, off) seconds; the rate is the mean over both.
        rate_file: lines of "seconds rate".
        arrivals_file: lines of nanoseconds from the start.
        requests: closed loop: end after so many.
    """

    arrivals: Arrivals = Arrivals.CLOSED
    rate: float | None = None
    connections: int = 20
    threads: int = 1
    seconds: float = 10.0
    warmup: float = 1.0
    burst: tuple[float, float] | None = None
    rate_file: Path | None = None
    arrivals_file: Path | None = None
    requests: int | None = None

    def words(self) -> list[str]:
        """The generator's arguments."""
        words = ["--arrivals", self.arrivals, "--connections", str(self.connections), "--threads", str(self.threads)]
        words += ["--seconds", f"{self.seconds:g}", "--warmup", f"{self.warmup:g}"]
        if self.rate is not None:
            words += ["--rate", f"{self.rate:.6f}"]
        if self.burst is not None:
            words += ["--burst", f"{self.burst[0]:g}:{self.burst[1]:g}"]
        if self.rate_file is not None:
            words += ["--rate-file", str(self.rate_file)]
        if self.arrivals_file is not None:
            words += ["--arrivals-file", str(self.arrivals_file)]
        if self.requests is not None:
            words += ["--requests", str(self.requests)]
        return words


@dataclass(frozen=True)
class LoadMeasured:
    """What came of it; latencies are (nanoseconds, count) pairs in ascending order.

    Attributes:
        corrected: from the time a request was meant to be sent.
        uncorrected: from the time it was.
        failed: replies that tell of an error.
        broken: requests whose connection ended before the reply, and datagrams that got none within a second.
        unanswered: requests without a reply at the end.
        unsent: requests that were due but found no free connection.
        late_p99_ns: how far behind schedule requests left though a connection was free.
        cpu_seconds: of the generator.
    """

    seconds: float
    sent: int
    received: int
    failed: int
    broken: int
    unanswered: int
    unsent: int
    bytes: int
    cpu_seconds: float
    late_p99_ns: int
    corrected: tuple[tuple[int, int], ...]
    uncorrected: tuple[tuple[int, int], ...]

    def __add__(self, other: LoadMeasured) -> LoadMeasured:
        """Both loads as one; of how late requests left, the worse."""
        summed = ("seconds", "sent", "received", "failed", "broken", "unanswered", "unsent", "bytes", "cpu_seconds")
        return replace(
            self,
            late_p99_ns=max(self.late_p99_ns, other.late_p99_ns),
            corrected=_merged(self.corrected, other.corrected),
            uncorrected=_merged(self.uncorrected, other.uncorrected),
            **{name: getattr(self, name) + getattr(other, name) for name in summed},
        )

    @property
    def rate(self) -> float:
        """Replies a second."""
        return self.received / self.seconds if self.seconds > 0 else 0.0

    def warnings(self, offered: Offered) -> list[str]:
        """What makes the figures less than they seem."""
        out = []
        if self.late_p99_ns > LATE_NS:
            out.append(
                f"the generator itself was late: 1 % of the requests left {self.late_p99_ns / 1e6:.1f} ms or more "
                "behind schedule though a connection was free; use a lower rate, more --threads or another machine"
            )
        if offered.rate is not None and self.rate < offered.rate * (1 - SHORT_OF_RATE):
            out.append(
                f"{self.rate:,.0f} of the {offered.rate:,.0f} requests a second were answered: the server is "
                "saturated, or there are too few connections"
            )
        if self.unanswered or self.unsent:
            out.append(f"{self.unanswered} requests had no reply at the end, {self.unsent} were due and never sent")
        return out


def _merged(*latencies: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    total: Counter[int] = Counter()
    for pairs in latencies:
        total.update(dict(pairs))
    return tuple(sorted(total.items()))


def percentile(pairs: Sequence[tuple[int, int]], percent: float) -> float:
    """Nanoseconds below which ``percent`` of the counts lie; 0 without any."""
    total = sum(count for _, count in pairs)
    wanted = max(1.0, percent / 100 * total)
    seen = 0
    for value, count in pairs:
        seen += count
        if seen >= wanted - 1e-9:
            return float(value)
    return 0.0


def histogram_of(pairs: Sequence[tuple[int, int]]) -> HdrHistogram:
    """The latencies as an HdrHistogram of three digits, nanoseconds."""
    histogram = HdrHistogram(1, _LARGEST_NS, 3)
    for value, count in pairs:
        histogram.record_value(max(1, value), count)
    return histogram


def save_percentiles(pairs: Sequence[tuple[int, int]], path: Path) -> None:
    """Write HdrHistogram's percentile distribution, in milliseconds, which its plotters read."""
    with path.open("wb") as file:
        histogram_of(pairs).output_percentile_distribution(file, 1e6)


def drive(plan: Path, port: int, offered: Offered, host: str = "127.0.0.1", before: Sequence[str] = ()) -> LoadMeasured:
    """Offer a load to a server that listens on ``port``.

    Args:
        plan: what to send, a file of `ditto.artifacts.plan`.
        before: words before the generator's command, such as those that keep it on one CPU.

    Raises:
        MissingCapabilityError: the generator is not built.
        BadInputError: it does not take the load that was asked for.
        AppError: the server does not answer.
    """
    program = paths.loadgen_binary()
    if not program.is_file():
        raise MissingCapabilityError("the load generator is not built", "make -C native/loadgen")
    words = [*before, str(program), "--plan", str(plan), "--host", host, "--port", str(port), *offered.words()]
    patience = _PATIENCE_S + (600.0 if offered.requests else offered.seconds + offered.warmup)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired as error:
        raise AppError(f"no end of the load after {patience:.0f} s", "is the server still answering?") from error
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        if "no connection" in message:
            raise AppError(f"port {port}: {message}", "is the server running, and the plan one for its protocol?")
        raise BadInputError(message, "ditto load --help shows what can be offered")
    return _measured(json.loads(done.stdout))


def _measured(data: dict[str, Any]) -> LoadMeasured:
    pairs = {name: tuple((int(v), int(n)) for v, n in data[name]) for name in ("corrected", "uncorrected")}
    names = ("sent", "received", "failed", "broken", "unanswered", "unsent", "bytes", "late_p99_ns")
    return LoadMeasured(
        seconds=float(data["seconds"]),
        cpu_seconds=float(data["cpu_seconds"]),
        corrected=pairs["corrected"],
        uncorrected=pairs["uncorrected"],
        **{name: int(data[name]) for name in names},
    )
