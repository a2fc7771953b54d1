"""Studies with known figures, made without running anything."""

from __future__ import annotations

from ditto.artifacts.machine import MachineFacts
from ditto.artifacts.study import Setting, Study, StudyConditions
from ditto.artifacts.study_kind import StudyKind
from ditto.study.records import Collected, records_of

CORES = {
    # setting: rounds of (original, clone) requests a second
    "unlimited": [(1000.0, 2000.0), (1010.0, 2040.0), (990.0, 1980.0)],
    "cores-0.5": [(500.0, 1000.0), (510.0, 1100.0), (490.0, 990.0)],
    "cores-0.25": [(250.0, 900.0), (255.0, 910.0), (245.0, 890.0)],
}


def cores_study(app: str = "service-1", text: str = "client -c 20") -> Study:
    """Half of the CPU halves both sides; a quarter does so to the original, and less to the clone."""
    settings = [
        Setting(name="unlimited", text="no quota", unchanged=True),
        Setting(name="cores-0.25", text=f"0.25 cores {text}", value=0.25),
        Setting(name="cores-0.5", text="0.5 cores", value=0.5),
    ]
    collected = Collected()
    for name, rounds in CORES.items():
        for original, clone in rounds:
            for side, rate in (("original", original), ("clone", clone)):
                collected.add(name, side, {"throughput": rate, "latency.closed.p99": 1e6 / rate})
    return Study(
        kind=StudyKind.CORES,
        app=app,
        when="2026-01-02T03:04:05+00:00",
        machine=MachineFacts(cpu_model=f"Processor {text}", cpus=2),
        conditions=StudyConditions(
            connections=20, rounds=3, seconds=2.0, load=text, order="A B A B A B", placement=text
        ),
        axis="cores allowed",
        settings=settings,
        records=records_of(StudyKind.CORES, settings, collected, 2.0, 3),
        notes=[text],
    )


def interference_study(text: str = "client -c 20") -> Study:
    """Settings without an axis, one of them without figures of the clone, and a text everywhere."""
    settings = [
        Setting(name="alone", text="no neighbour", unchanged=True),
        Setting(name=text, text=text),
    ]
    collected = Collected()
    collected.add("alone", "original", {"throughput": 100.0, text: 5.0})
    collected.add("alone", "clone", {"throughput": 100.0, text: 5.0})
    collected.add(text, "original", {"throughput": 0.0, text: 80.0})
    return Study(
        kind=StudyKind.INTERFERENCE,
        app="service-1",
        when="2026-01-02T03:04:05+00:00",
        conditions=StudyConditions(connections=1, rounds=1, seconds=1.0, load=text, order="A B"),
        settings=settings,
        records=records_of(StudyKind.INTERFERENCE, settings, collected, 1.0, 1),
    )
