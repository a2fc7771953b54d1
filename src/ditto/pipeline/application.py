"""The stages for an app of several services: each on one tier after the other, or on all of them wired together.

OUT/app.json, OUT/NAME/observation      private
OUT/profiles/application.json, OUT/profiles/tier-N.json
OUT/clone/application.json, OUT/clone/tier-N/
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ditto.artifacts.app import AppSpec
from ditto.artifacts.app_recording import FILE_NAME, AppRecording, load_app_recording
from ditto.artifacts.application import Application, Tier, load_application
from ditto.artifacts.files import write_atomic
from ditto.artifacts.graph import Graph
from ditto.artifacts.observation import load_observation
from ditto.artifacts.plan import PLAN_NAME
from ditto.artifacts.profile import Profile, load_profile
from ditto.errors import BadInputError, MissingCapabilityError
from ditto.host.clones import application_spec, tier_names
from ditto.host.place import Place
from ditto.host.progress import Progress
from ditto.host.workers import worker_pool
from ditto.pipeline.tuning import Untuned, together, tune_work

WORK_SECONDS = 40.0
"""For one tier, after which no further round of work begins."""
ALL_WORK_SECONDS = 280.0
"""For all tiers together that have one CPU."""
NATIVE_SECONDS, ALL_NATIVE_SECONDS = 20.0, 180.0
"""For each tier and for all together, after which no further knob of any is tried."""
RECORDED_S = 2.5
"""Of the load, in each recording for the calls between tiers, as of that which tiers are made from: what is asked of
caches depends on how long they have been filled.  Following them takes several times as long."""
RECORDINGS = 2
"""Of each side, for the calls between tiers: the original's own spread is known from two."""

if TYPE_CHECKING:
    from ditto.artifacts.fidelity import Fidelity
    from ditto.model.service import Fitted
    from ditto.validate import ValidateOptions

FIRST_PORT = 8080
"""That the entry's clone listens on unless told otherwise; the other tiers have those that follow."""


def is_observed(out: Path) -> bool:
    """Whether a folder holds the observation of an app of several services."""
    return (out / FILE_NAME).is_file() and not (out / "observation").is_dir()


def model(out: Path, seed: int, keep_names: bool, progress: Progress) -> Path:
    """Fit a profile to each service's observation; ``OUT/profiles``.

    All have one seed, so that the fingerprints of paths agree between who calls and who is called.
    """
    app = load_app_recording(out)
    names = _names(app, keep_names)
    by_port = {service.port: names[service.name] for service in app.services}
    folder = out / "profiles"
    tiers = []
    with worker_pool(len(app.services)) as pool:
        made = [pool.submit(_fit, out / service.name / "observation", seed) for service in app.services]
        for number, (service, one) in enumerate(zip(app.services, made, strict=True)):
            progress.update(f"fitting {service.name}", number / len(app.services))
            fitted = one.result()
            for note in fitted.notes:
                progress.note(f"{service.name}: {note}")
            fitted.profile.save(profile_of(folder, names[service.name]))
            calls = [by_port.get(_port(address)) for address in fitted.called]
            tiers.append(Tier(name=names[service.name], port=FIRST_PORT + number, calls=calls))
            known = ", ".join(name or "one that is no service" for name in calls)
            progress.note(f"{service.name} is {names[service.name]}{', calls ' + known if known else ''}")
    Application(tiers=tiers).save(folder)
    return folder


def _fit(observed: Path, seed: int) -> Fitted:
    from ditto.model.service import fit
    from ditto.streams.evidence import load_evidence

    return fit(load_evidence(observed, load_observation(observed)), version("ditto-clone"), seed)


def profile_of(profiles: Path, tier: str) -> Path:
    """The file of a tier's profile."""
    return profiles / f"{tier}.json"


def generate(profiles: Path, clone: Path, seed: int | None) -> None:
    """Write the clone of each tier, and what joins them."""
    application = load_application(profiles)
    _write({tier.name: load_profile(profile_of(profiles, tier.name)) for tier in application.tiers}, clone, seed)
    application.save(clone)


def _write(profiles: Mapping[str, Profile], clone: Path, seed: int | None) -> None:
    """Generate the clones of some tiers; bodies that are not known, several at once."""
    from ditto.generate.clone import body_of, has_body, keep_body
    from ditto.pipeline import write_clone

    anew = [profile for profile in profiles.values() if not has_body(profile, seed)]
    if len(anew) > 1:
        with worker_pool(len(anew)) as pool:
            for profile, body in zip(anew, pool.map(body_of, anew, [seed] * len(anew)), strict=True):
                keep_body(profile, seed, body)
    for tier, profile in profiles.items():
        write_clone(profile, clone / tier, seed)


def tune(
    spec: AppSpec,
    out: Path,
    native: bool,
    progress: Progress,
    work_seconds: float | None = None,
    cpu_seconds: float | None = None,
    built: bool = False,
) -> None:
    """Correct the profiles until each tier's clone executes and costs what the original's service does.

    Tiers run under lens among the clones of the others, one a CPU at a time; CPU time is compared of all at once.

    Args:
        built: the clones there are were made of the profiles there are, by this program: none is made again as it is.
    """
    from ditto.run.build import build_clone
    from ditto.tune.loop import Round, Tuned, is_uncounted, rounds_json, tune_tiers_native

    profiles, clone = out / "profiles", out / "clone"
    driven = entry_driven(spec, out)
    wired = application_spec(driven, clone)
    application = load_application(profiles)
    places: dict[str, Place] = {}
    untuned: dict[str, Untuned] = {}
    rounds: list[Round] = []
    for tier, service in zip(application.tiers, spec.services, strict=True):
        folder = out / (service.name or "") / "observation"
        places[tier.name] = Place(driven, wired, service.name)
        profile = load_profile(profile_of(profiles, tier.name))
        untuned[tier.name] = Untuned(service.name or "", folder, load_observation(folder), profile, built)

    def keep(tier: str, tuned: Tuned) -> None:
        rounds.extend(replace(round_, phase=f"{round_.phase} of {tier}") for round_ in tuned.rounds)
        tuned.profile.save(profile_of(profiles, tier))

    progress.stage("tune the work of tiers")
    each = min(WORK_SECONDS, ALL_WORK_SECONDS * together() / len(untuned)) if work_seconds is None else work_seconds
    worked = tune_work(untuned, driven, wired, clone, progress, each)
    for name, tuned in worked.items():
        keep(name, tuned)
    if native:
        progress.stage("tune")
        found = {name: tuned.profile for name, tuned in worked.items()}
        made = dict(found)

        def remake_all(some: Mapping[str, Profile]) -> None:
            changed = {tier: profile for tier, profile in some.items() if made[tier] != profile}
            _write(changed, clone, None)
            made.update(changed)
            for tier in changed:
                build_clone(clone / tier)

        limit = min(NATIVE_SECONDS * len(places), ALL_NATIVE_SECONDS) if cpu_seconds is None else cpu_seconds
        uncounted = [name for name, one in untuned.items() if is_uncounted(one.observation, found[name])]
        for name, tuned in tune_tiers_native(places, found, uncounted, remake_all, progress, limit).items():
            keep(name, tuned)
    write_atomic(out / "tuning.json", rounds_json(rounds))


def validate(spec: AppSpec, clone: Path, out: Path, options: ValidateOptions, progress: Progress) -> Fidelity:
    """Compare the application with the clone of it: at the entry, tier by tier, and who calls whom how often.

    Args:
        out: the folder of its observation, where there is one.
    """
    from ditto.validate import Tiers
    from ditto.validate import validate as compare

    driven = entry_driven(spec, out)
    wired = application_spec(driven, clone)
    names = tier_names(spec, clone)
    graphs: dict[str, list[Graph]] = {"original": [], "clone": []}
    why = ""
    try:
        for side in ("original", "clone") * RECORDINGS:
            progress.stage("validate")
            progress.update(f"recording the calls between tiers: {side}")
            graphs[side].append(_graph(driven if side == "original" else wired, progress))
    except MissingCapabilityError as error:
        why = error.message
    plan = entry_observation(spec, out) / PLAN_NAME
    tiers = Tiers(names, {"original": graphs["original"], "clone": graphs["clone"]}, why)
    options = replace(options, tiers=tiers, plan=plan if plan.is_file() else None, instructions=False, empty_body=False)
    return compare(driven, clone, options, progress)


def _graph(spec: AppSpec, progress: Progress) -> Graph:
    """Who calls whom in an app, or in the clones that stand in its place, from one recording of all."""
    from ditto.observe.app_phase import AppOptions, record_app
    from ditto.topology.recorded import graph_of_recording

    with tempfile.TemporaryDirectory(prefix="ditto-app-") as scratch:
        # As tiers are observed: what requests do depends on what earlier ones left in caches.
        record_app(spec, Path(scratch), AppOptions(seconds=RECORDED_S, apart=True), progress)
        return graph_of_recording(Path(scratch), progress, load_only=True)


def entry_driven(spec: AppSpec, out: Path) -> AppSpec:
    """The app, with a client that can talk to the entry's clone where its own cannot."""
    from ditto.pipeline import driven

    return driven(spec, entry_observation(spec, out))


def entry_observation(spec: AppSpec, out: Path) -> Path:
    """The folder of what was seen of the entry."""
    return out / (spec.service.name or "") / "observation"


def _names(app: AppRecording, keep: bool) -> dict[str, str]:
    """The tier of each service.

    Raises:
        BadInputError: a name that is to be kept cannot be a host's.
    """
    if not keep:
        return {service.name: f"tier-{number}" for number, service in enumerate(app.services, 1)}
    names = {service.name: re.sub(r"[._]", "-", service.name.lower()) for service in app.services}
    for service, name in names.items():
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name) or list(names.values()).count(name) > 1:
            raise BadInputError(f"service {service}: {name} cannot be a tier's name", "leave out --keep-names")
    return names


def _port(address: str) -> int:
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else 0
