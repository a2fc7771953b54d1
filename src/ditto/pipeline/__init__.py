"""The stages in order: the table of contents of the program.

    observe → model → generate → build → tune → validate → report

Each function here loads a stage's input artifact, runs the stage and saves its output artifact.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ditto import paths
from ditto.artifacts.app import AppSpec, load_app
from ditto.artifacts.application import is_application
from ditto.artifacts.fidelity import Fidelity, load_fidelity, load_tuning
from ditto.artifacts.files import write_atomic
from ditto.artifacts.observation import load_observation
from ditto.artifacts.plan import PLAN_NAME
from ditto.artifacts.profile import Profile, load_profile
from ditto.artifacts.study import load_studies
from ditto.errors import BadInputError
from ditto.host.place import Place
from ditto.host.progress import Progress
from ditto.pipeline import application
from ditto.pipeline.running import build_all as build_all
from ditto.pipeline.running import deploy as deploy
from ditto.pipeline.running import run_here as run_here

if TYPE_CHECKING:
    from ditto.artifacts.graph import Graph
    from ditto.artifacts.study import Study
    from ditto.artifacts.study_kind import StudyKind
    from ditto.host.loadgen import LoadMeasured, Offered

DEFAULT_SEED = 1
TUNED_BY_S = 115.0
"""Seconds from the start of ``ditto clone`` at which tuning ends, if it had its least time by then."""


@dataclass(frozen=True)
class CloneOptions:
    """Options of ``ditto clone``.

    Attributes:
        seed: of generation; the default seed without it.
        rounds: rounds of the final comparison.
        seconds: load of each timed run in it.
        tune: whether the measured CPU time is tuned as well.
        work_seconds: after which no further round corrects what is executed (of each service); 30 s without it, 40 s
            and at most 280 s for all on each CPU where there are several.
        cpu_seconds: after which no further knob is tried; without it at least 30 s, or what is left of 115 s.
        keep_names: whether the tiers of an app of several services keep their names.
    """

    seed: int | None = None
    rounds: int = 5
    seconds: float = 3.0
    tune: bool = True
    keep_names: bool = False
    work_seconds: float | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class CloneResult:
    """What ``ditto clone`` made."""

    profile: Path
    clone: Path
    fidelity: Path
    report: Path


def observe(app: Path | None, out: Path, pid: int | None, seconds: float | None, progress: Progress) -> Path:
    """Record an app under its own load, or a running process for some time; ``OUT/observation``.

    Of an app of several services each gets a folder of its own, ``OUT/NAME/observation``; the result is ``OUT`` then.
    """
    from ditto.observe.stage import attach_to, observe_app
    from ditto.observe.tiers import observe_tiers

    folder = out / "observation"
    progress.stage("observe")
    spec = None if app is None else load_app(app)
    if spec is not None and spec.several:
        observe_tiers(spec, out, seconds, progress)
        return out
    if spec is not None:
        observe_app(spec, folder, seconds, progress)
    else:
        attach_to(pid or 0, folder, seconds or 10.0, progress)
    return folder


def model(out: Path, progress: Progress, seed: int | None = None, keep_names: bool = False) -> Path:
    """Fit the profile to ``OUT/observation``; ``OUT/profile.json``.

    Of an app of several services, those of all tiers and how they are wired; ``OUT/profiles``.
    """
    from ditto.model.service import fit
    from ditto.streams.evidence import load_evidence

    folder = out / "observation"
    progress.stage("model")
    if application.is_observed(out):
        return application.model(out, DEFAULT_SEED if seed is None else seed, keep_names, progress)
    observation = load_observation(folder)
    progress.update("reading the recordings")
    evidence = load_evidence(folder, observation)
    progress.update("fitting")
    fitted = fit(evidence, version("ditto-clone"), DEFAULT_SEED if seed is None else seed)
    for note in fitted.notes:
        progress.note(note)
    path = out / "profile.json"
    fitted.profile.save(path)
    return path


def generate(profile: Path, clone: Path, seed: int | None, progress: Progress) -> Path:
    """Write the sources of a clone from a profile alone, or those of all tiers from a folder of profiles."""
    progress.stage("generate")
    if is_application(profile):
        application.generate(profile, clone, seed)
    else:
        write_clone(load_profile(profile), clone, seed)
    return clone


def tune(
    app: Path,
    out: Path,
    progress: Progress,
    native: bool = True,
    seconds: float = TUNED_BY_S,
    work_seconds: float | None = None,
    cpu_seconds: float | None = None,
    built: bool = False,
) -> Path:
    """Correct ``OUT/profile.json`` until the clone executes what the original does; rebuilds the clone.

    Of an app of several services, ``OUT/profiles`` and the clones of all tiers, which are built already.

    Args:
        native: whether measured CPU time is tuned as well.
        seconds: that it may take, where the rounds of work alone do not take longer.
        built: the clones of all tiers were just made of the profiles as they are.
    """
    from ditto.run.build import build_clone
    from ditto.tune.loop import WORK_SECONDS, rounds_json, tune_profile

    spec = load_app(app)
    if spec.several:
        application.tune(spec, out, native, progress, work_seconds, cpu_seconds, built)
        return out / "profiles"
    progress.stage("tune")
    folder = out / "observation"
    clone = out / "clone"

    def remake(profile: Profile) -> Path:
        write_clone(profile, clone, None)
        return build_clone(clone)

    tuned = tune_profile(
        Place(driven(spec, folder)),
        load_profile(out / "profile.json"),
        folder,
        load_observation(folder),
        remake,
        progress,
        native,
        seconds,
        WORK_SECONDS if work_seconds is None else work_seconds,
        cpu_seconds,
    )
    tuned.profile.save(out / "profile.json")
    write_atomic(out / "tuning.json", rounds_json(tuned.rounds))
    return out / "profile.json"


def validate(app: Path, clone: Path, out: Path | None, rounds: int, seconds: float, progress: Progress) -> Fidelity:
    """Compare original and clone; ``OUT/fidelity.json`` if a folder is given."""
    from ditto.validate import ValidateOptions
    from ditto.validate import validate as compare

    made = clone.parent if out is None else out
    options = ValidateOptions(rounds=rounds, seconds=seconds)
    spec = load_app(app)
    if spec.several:
        fidelity = application.validate(spec, clone, made, options, progress)
    else:
        plan = made / "observation" / PLAN_NAME
        asked = requests_per_asked(made / "observation")
        options = replace(options, plan=plan if plan.is_file() else None, requests_per_asked=asked)
        fidelity = compare(driven(spec, made / "observation"), clone, options, progress)
    if out is not None:
        beside = {"tuning": load_tuning(out / "tuning.json"), "studies": load_studies(out)}
        fidelity = fidelity.model_copy(update=beside)
        fidelity.save(out / "fidelity.json")
    return fidelity


def load(
    app: Path | None,
    clone: Path | None,
    port: int | None,
    host: str,
    plan: Path | None,
    save_plan: Path | None,
    profile: Path | None,
    offered: Offered,
    progress: Progress,
) -> tuple[Offered, LoadMeasured]:
    """Offer a load to an app, to a clone in its place, or to what listens on a port; the offer and the result.

    Raises:
        BadInputError: what to drive or what to send is not told.
    """
    from ditto.host import drive as driver
    from ditto.host.clones import application_spec, built_clone, clone_command
    from ditto.host.loadgen import drive

    progress.stage("load")
    if port is not None:
        offered = replace(offered, connections=offered.connections or driver.CONNECTIONS)
        with driver.given_plan(plan, profile, save_plan) as path:
            return offered, drive(path, port, offered, host)
    if app is None:
        raise BadInputError("nothing to drive", "give an APP.toml, or --port P and --plan FILE")
    spec = load_app(app)
    command: list[str] | AppSpec | None = None
    if clone is not None:
        command = application_spec(spec, clone) if spec.several else clone_command(built_clone(clone))
    with driver.plan_file(spec, plan, save_plan, progress) as path:
        return driver.driven(spec, command, path, offered, progress)


def study(
    kind: StudyKind,
    app: Path,
    clone: Path,
    out: Path | None,
    rounds: int,
    seconds: float,
    at: tuple[float, ...],
    plan: Path | None,
    connections: int | None,
    progress: Progress,
) -> Study:
    """Original and clone under the same change; ``OUT/study-KIND.json`` if a folder is given."""
    from ditto.artifacts.study import study_file
    from ditto.study import StudyOptions
    from ditto.study import study as compare

    spec = load_app(app)
    observed = application.entry_observation(spec, clone.parent) if spec.several else clone.parent / "observation"
    made = compare(
        kind,
        driven(spec, observed),
        clone,
        StudyOptions(rounds, seconds, at, plan, connections),
        progress,
    )
    if out is not None:
        made.save(study_file(out, kind))
        keep_studies(out)
    return made


def keep_studies(out: Path) -> None:
    """Put the studies of a folder into its certificate, if it has one: a reader of that alone can draw everything."""
    path = out / "fidelity.json"
    if path.is_file():
        load_fidelity(path).model_copy(update={"studies": load_studies(out)}).save(path)


def report(out: Path, progress: Progress) -> Path:
    """Render ``OUT/report.html`` from ``OUT/fidelity.json`` and what lies beside it."""
    from ditto.report import render

    progress.stage("report")
    fidelity = load_fidelity(out / "fidelity.json")
    profile = load_profile(out / "profile.json") if (out / "profile.json").is_file() else None
    folder = out / "observation"
    observation = load_observation(folder) if (folder / "observation.json").is_file() else None
    path = out / "report.html"
    write_atomic(path, render(fidelity, profile, observation))
    return path


def topology(traces: list[Path], out: Path, plot: Path | None, progress: Progress) -> Graph:
    """The dependency graph that trace files show, written to ``out``; and as a page."""
    from ditto.topology import graph_of_traces

    progress.stage("topology")
    graph = graph_of_traces(traces, progress)
    _save_graph(graph, out, plot)
    return graph


def topology_of_app(
    app: Path,
    out: Path,
    plot: Path | None,
    seconds: float | None,
    collector: str,
    keep: Path | None,
    progress: Progress,
) -> Graph:
    """The dependency graph of an app without tracing, from one recording of all its services under its own load.

    Args:
        keep: folder for the recording, which is private; it is removed without one.
    """
    from ditto.observe.app_phase import WINDOW_S, AppOptions, record_app
    from ditto.topology.recorded import graph_of_recording

    spec = load_app(app)
    with tempfile.TemporaryDirectory(prefix="ditto-app-") as scratch:
        folder = keep or Path(scratch)
        progress.stage("observe")
        record_app(spec, folder, AppOptions(collector, seconds or WINDOW_S), progress)
        progress.stage("topology")
        graph = graph_of_recording(folder, progress)
    _save_graph(graph, out, plot)
    return graph


def _save_graph(graph: Graph, out: Path, plot: Path | None) -> None:
    graph.save(out)
    if plot is not None:
        from ditto.plot import page_of

        write_atomic(plot, page_of(graph))


def clone(app: Path, out: Path, options: CloneOptions, progress: Progress) -> CloneResult:
    """All stages in order."""
    began = time.monotonic()
    observe(app, out, None, None, progress)
    profile = model(out, progress, options.seed, options.keep_names)
    folder = out / "clone"
    generate(profile, folder, None, progress)
    build_all(folder, progress)
    left = TUNED_BY_S - (time.monotonic() - began)
    tune(app, out, progress, options.tune, left, options.work_seconds, options.cpu_seconds, built=True)
    validate(app, folder, out, options.rounds, options.seconds, progress)
    made = report(out, progress)
    return CloneResult(profile, folder, out / "fidelity.json", made)


def driven(spec: AppSpec, observation: Path) -> AppSpec:
    """The app, with a client that can talk to its clone where its own cannot."""
    from ditto.host.drive import with_stand_in

    plan = observation / PLAN_NAME
    client = load_observation(observation).client if plan.is_file() else None
    return spec if client is None else with_stand_in(spec, plan, client)


def requests_per_asked(observation: Path) -> float | None:
    """How often the client makes the number of requests it is asked for, where no codec knows the protocol.

    There a server may receive a request in parts, or relay it, so that its receives tell nothing; None elsewhere.
    """
    from ditto.artifacts.plan import WITHOUT_CODEC, load_plan
    from ditto.host.requests import passes_of

    plan = observation / PLAN_NAME
    client = load_observation(observation).client if plan.is_file() else None
    if client is None or not client.asked or load_plan(plan).framing not in WITHOUT_CODEC:
        return None
    return passes_of(client.steps, client.asked).factor


def write_clone(profile: Profile, clone_folder: Path, seed: int | None) -> None:
    """Write a clone's folder."""
    from ditto.generate.clone import generate as make_sources
    from ditto.generate.clone import write_clone

    write_clone(make_sources(profile, paths.runtime_sources(), seed), clone_folder)
