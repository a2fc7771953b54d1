"""A study: how original and clone answer to the same change, and how far apart their answers are.

The file (``study-<kind>.json``) is complete: every sample behind every figure is in it.  It holds no path of the app.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ditto.artifacts.files import write_atomic
from ditto.artifacts.machine import MachineFacts
from ditto.artifacts.reading import read_model
from ditto.artifacts.study_kind import StudyKind
from ditto.artifacts.verdict import Bound, Verdict, judge
from ditto.errors import BadInputError

FORMAT_VERSION = 1
BOUND_POINTS = 10.0
"""What is asked of a judged change: no more than this many points from the original's."""
_MOST_BYTES = 64 << 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Setting(_Frozen):
    """One state of what is changed.

    Attributes:
        name: in the records.
        text: what it is, for people.
        value: its place on the axis (cores, a fraction of the memory, requests a second); None where it has none.
        unchanged: the others are compared with this one.
    """

    name: str
    text: str
    value: float | None = None
    unchanged: bool = False


class StudySamples(_Frozen):
    """The value of one metric in each run of each side, in the order of the rounds."""

    original: list[float] = []
    clone: list[float] = []


class StudyRecord(_Frozen):
    """One metric under one setting.

    Attributes:
        original, clone: medians over the runs, in ``unit``; None where no run gave the figure.
        original_change, clone_change: against the unchanged run of the same side, as a fraction (-0.5 is half); None
            for the unchanged setting.
        error_points: ``clone_change - original_change`` in percentage points; of connections and tiers, whose changes
            are of many times, ``error_factor`` in such points.
        error_factor: the same as a quotient, ``(1 + clone_change) / (1 + original_change) - 1``, which alone says
            something where a change is of many times; None where the original's is to 0.
        noise_points: the original's change against itself (`ditto.study.statistics`), at least 0.
        judged: whether the verdict counts; latencies change many times over, and but for the median of a study of tiers
            they are shown only.
        how: how the figure was obtained.
    """

    setting: str
    metric: str
    unit: str
    original: float | None = None
    clone: float | None = None
    original_change: float | None = None
    clone_change: float | None = None
    error_points: float | None = None
    error_factor: float | None = None
    noise_points: float | None = None
    judged: bool = False
    verdict: Verdict = Verdict.NOT_AVAILABLE
    how: str
    samples: StudySamples = StudySamples()

    @property
    def too_noisy(self) -> bool:
        """Whether being inside the noise says less than was asked, for the noise is wider than the bound."""
        return self.judged and self.verdict is Verdict.INSIDE_NOISE and (self.noise_points or 0.0) > BOUND_POINTS


def verdict_of(error_points: float | None, noise_points: float | None, judged: bool) -> Verdict:
    """The verdict of a record with these values."""
    return judge(error_points, "absolute", None, noise_points, Bound(absolute=BOUND_POINTS) if judged else None)


class StudyConditions(_Frozen):
    """Under what the figures were taken.

    Attributes:
        seconds: measured in each run.
        load: the app's own client whose requests are sent, paths left out.
        order: of the runs, such as ``A B A B`` (A original, B clone) under each setting.
        placement: which CPUs server, load and neighbour are on.
        together: whether both sides stood at once under a setting, and took turns within each run.
    """

    connections: int
    rounds: int
    seconds: float
    load: str
    order: str
    placement: str = ""
    together: bool = False


class Study(_Frozen):
    """The whole study; see the module.

    Attributes:
        when: its start, ISO 8601 in UTC.
        axis: name and unit of the settings' values; empty where they have none.
        notes: what makes the figures less than they seem.
    """

    format_version: Literal[1] = 1
    kind: StudyKind
    app: str
    when: str
    machine: MachineFacts = MachineFacts()
    conditions: StudyConditions
    axis: str = ""
    settings: list[Setting] = Field(min_length=1, max_length=100)
    records: list[StudyRecord] = Field(max_length=5000)
    notes: list[str] = []

    def of_metric(self, metric: str) -> list[StudyRecord]:
        """The records of one metric in the order of the settings."""
        order = {setting.name: number for number, setting in enumerate(self.settings)}
        return sorted((r for r in self.records if r.metric == metric), key=lambda r: order.get(r.setting, len(order)))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics in the order of the records."""
        return list(dict.fromkeys(record.metric for record in self.records))

    def beyond(self, max_error: float) -> list[StudyRecord]:
        """Judged records whose change is further off than ``max_error`` (0.1 is 10 points) and than the noise."""
        return [
            record
            for record in self.records
            if record.judged
            and record.error_points is not None
            and abs(record.error_points) > max(100 * max_error, record.noise_points or 0.0)
        ]

    def save(self, path: Path) -> None:
        """Write as JSON, replacing the file as a whole."""
        write_atomic(path, self.model_dump_json(indent=1) + "\n")


def study_file(folder: Path, kind: StudyKind) -> Path:
    """Where the study of a kind lies in a folder."""
    return folder / f"study-{kind}.json"


def load_studies(folder: Path) -> list[Study]:
    """The studies that lie in a folder, in the order of their kinds.

    Raises:
        BadInputError, FormatVersionError: see `load_study`.
    """
    return [load_study(path) for kind in StudyKind if (path := study_file(folder, kind)).is_file()]


def load_study(path: Path) -> Study:
    """Read and check a study.

    Raises:
        BadInputError: unreadable, too large, not JSON, or not of this shape; names the place.
        FormatVersionError: another format version.
    """
    remedy = "make it again with 'ditto study'"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadInputError(f"{path}: larger than {_MOST_BYTES >> 20} MiB", "this is no study of ditto")
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", remedy) from error
    return read_model(path, Study, FORMAT_VERSION, remedy)
