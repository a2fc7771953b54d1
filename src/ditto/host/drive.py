"""An app or its clone under the load generator, with the requests that the app's own client makes."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ditto import paths
from ditto.artifacts.app import AppSpec, Service
from ditto.artifacts.observation import ClientRun
from ditto.artifacts.plan import PLAN_NAME, WITHOUT_CODEC, Framing, LoadPlan, Script, StepFlags, load_plan, opaque_of
from ditto.artifacts.profile import load_profile
from ditto.errors import AppError, BadInputError
from ditto.host.app import AppRun
from ditto.host.exchanges import ANSWERS, RelayedLoad, record_plan
from ditto.host.loadgen import LoadMeasured, Offered, drive
from ditto.host.progress import Progress
from ditto.host.requests import count_requests
from ditto.host.results import results_for
from ditto.host.synthetic import synthetic_plan
from ditto.host.tap import Tap

_REPLAY_S = 0.3
_SCRIPTS_TRIED, _STEPS_TRIED, _STEP_S, _MORE_S = 3, 60, 1.0, 0.001
_RESULTS_S = 1.5
_RECORDED_S, _ENOUGH = 2.0, 20_000
MOST_LOST = 0.01
"""Share of datagrams that may get lost on the way."""
CONNECTIONS = 20
"""Where the app tells no number."""


@dataclass(frozen=True)
class Recorded:
    """A plan, and the client's run that it was recorded from."""

    plan: LoadPlan
    client: ClientRun


def recorded(spec: AppSpec, progress: Progress) -> Recorded:
    """What the app's own client sends: the app is started and filled, and the client run once through a relay.

    Raises:
        AppError: app or client failed, or the client cannot be relayed.
    """
    progress.update("recording the client's requests")
    asked = spec.load.requests.lens if spec.load.counts_requests else None
    seen = _relayed(spec, asked)
    if asked and seen.plan.framing in WITHOUT_CODEC and (more := _enough(asked, seen.result.seconds, spec)) > asked:
        asked, seen = more, _relayed(spec, more)
    plan, result = seen.plan, seen.result
    replays = plan.framing not in WITHOUT_CODEC
    if not replays:
        # Started anew, as it is for every comparison: what the client stored may decide what it is answered.
        with AppRun(spec) as run:
            run.prepare()
            replays = _replays(run, plan)
    counted: float | None = None
    with suppress(AppError):
        counted = count_requests(result, None, spec.load.count).requests
    return Recorded(
        plan,
        ClientRun(
            steps=plan.requests,
            asked=asked,
            counted=counted,
            seconds=result.seconds,
            replays=replays,
            reply_framing=seen.ended,
            results=seen.results,
            starts_empty=seen.starts_empty,
        ),
    )


def _relayed(spec: AppSpec, asked: int | None) -> RelayedLoad:
    with AppRun(spec) as run:
        run.prepare()
        return record_plan(run, asked)


def _enough(asked: int, seconds: float, spec: AppSpec) -> int:
    """How many requests to record where nothing else will be sent to the clone: the mean size of a few is uncertain."""
    wanted = min(_RECORDED_S / max(seconds, 0.01) * asked, _ENOUGH, spec.load.requests.native)
    return round(wanted) if wanted > 2 * asked else asked


def callers_of(spec: AppSpec, databases: Mapping[str, Framing], progress: Progress) -> dict[str, ClientRun]:
    """What those ask that call databases within an app, and what they get: its client runs, with a relay before each.

    Args:
        spec: of several services.
        databases: by name, with their protocols.
        progress: is told.

    Returns:
        by name; without anything where the callers are not told the database's port by ``{port:NAME}``.

    Raises:
        AppError: app or client failed.
    """
    progress.update("recording what databases answer")
    taps: dict[str, Tap] = {}
    with ExitStack() as stack:

        def relay(service: Service, port: int) -> int:
            name = service.name or ""
            if name not in databases:
                return port
            taps[name] = stack.enter_context(Tap(port, answers=ANSWERS))
            return taps[name].port

        with AppRun(spec, relay=relay) as run:
            run.prepare()
            run.load_for(_RESULTS_S)
    return {
        name: ClientRun(
            steps=sum(len(stream.turns) for stream in tap.streams),
            asked=None,
            counted=None,
            seconds=tap.seconds,
            results=results_for(databases[name], tap.streams),
        )
        for name, tap in taps.items()
    }


def _replays(run: AppRun, plan: LoadPlan) -> bool:
    """Whether a server answers the requests as it did when they were recorded: reply for reply, of the same sizes."""
    if plan.framing is Framing.BYTES and not in_step(plan, run.host, run.port):
        return False
    with tempfile.TemporaryDirectory(prefix="ditto-load-") as folder:
        path = Path(folder) / PLAN_NAME
        plan.save(path)
        try:
            seen = drive(path, run.port, Offered(connections=run.spec.load.connections, seconds=_REPLAY_S), run.host)
        except AppError:
            return False
    lost = MOST_LOST * seen.sent if plan.framing is Framing.DATAGRAM else 0.0
    return seen.received > 0 and not seen.unanswered and seen.broken <= lost


def in_step(plan: LoadPlan, host: str, port: int) -> bool:
    """Whether a server's replies to the requests of a few connections, sent one by one, have the sizes of the plan.

    The load generator cannot tell: it takes what a longer reply has left for the reply to the next request.
    """
    try:
        return all(_plays(script, host, port) for script in plan.scripts[:_SCRIPTS_TRIED])
    except OSError:
        return False


def _plays(script: Script, host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=_STEP_S) as sock:
        for step in script.steps[:_STEPS_TRIED]:
            sock.settimeout(_STEP_S)
            sock.sendall(step.request)
            left = step.reply
            while left > 0:
                if not (piece := sock.recv(left)):
                    return False
                left -= len(piece)
            time.sleep(_MORE_S)
            sock.setblocking(False)
            with suppress(BlockingIOError):
                if sock.recv(1, socket.MSG_PEEK) or not step.flags & StepFlags.CLOSE:
                    return False
            if step.flags & StepFlags.CLOSE:
                break
    return True


def with_stand_in(spec: AppSpec, plan: Path, client: ClientRun) -> AppSpec:
    """The app with a client that can talk to its clone: the load generator, where no codec knows the protocol.

    It drives the original too if that answers the recorded requests as it did, so that both have the same client.  For
    each request that is asked for it makes as many exchanges as the app's own client made when it was recorded, and it
    counts requests as that did.

    Args:
        plan: recorded; where its replies are framed by bytes, an opaque plan is written beside it.
    """
    if load_plan(plan).framing not in WITHOUT_CODEC or spec.load.clone_command is not None:
        return spec
    words = ["--port", "{port}", "--connections", str(spec.load.connections or CONNECTIONS)]
    if client.asked:
        words += ["--requests", "{requests}", "--each", f"{client.steps / client.asked:.6f}"]
    else:
        words += ["--seconds", f"{client.seconds:.3f}"]
    if client.counted or not client.asked:
        words += ["--counts", f"{(client.counted or client.steps) / client.steps:.6f}"]
    commands = [(str(paths.loadgen_binary()), "--plan", str(p.resolve()), *words) for p in (plan, clone_plan(plan))]
    changes: dict[str, object] = {"clone_command": commands[1]}
    if client.replays:
        changes["command"] = commands[0]
    return spec.model_copy(update={"load": spec.load.model_copy(update=changes)})


def clone_plan(plan: Path) -> Path:
    """The plan to send to a clone: the same one, or one in the clones' own framing written beside it."""
    known = load_plan(plan)
    if known.framing not in WITHOUT_CODEC:
        return plan
    path = plan.with_suffix(".opaque")
    opaque_of(known).save(path)
    return path


@contextmanager
def given_plan(plan: Path | None, profile: Path | None, save: Path | None) -> Iterator[Path]:
    """What to send to a server that runs already: a plan that is there, or one drawn from a clone's profile.

    Raises:
        BadInputError: neither is given, or what is given is missing or damaged.
    """
    if plan is not None:
        load_plan(plan)
        yield plan
        return
    if profile is None:
        raise BadInputError(
            "--port drives a server that runs already: what to send is not known",
            "give --plan FILE, or --profile PROFILE.json of the clone",
        )
    service = load_profile(profile).services[0]
    with tempfile.TemporaryDirectory(prefix="ditto-load-") as folder:
        path = save or Path(folder) / PLAN_NAME
        synthetic_plan(service).save(path)
        yield path


@contextmanager
def plan_file(spec: AppSpec, plan: Path | None, save: Path | None, progress: Progress) -> Iterator[Path]:
    """The plan to send: a file that is there, or what the app's own client sends, in one that only this user may read.

    Args:
        plan: that is there; recorded without it.
        save: where to keep what was recorded.

    Raises:
        BadInputError: the file is missing or damaged.
        AppError: see `recorded`.
    """
    if plan is not None:
        load_plan(plan)
        yield plan
        return
    made = recorded(spec, progress).plan
    with tempfile.TemporaryDirectory(prefix="ditto-load-") as folder:
        path = save or Path(folder) / PLAN_NAME
        made.save(path)
        yield path


def driven(
    spec: AppSpec, clone: Sequence[str] | AppSpec | None, plan: Path, offered: Offered, progress: Progress
) -> tuple[Offered, LoadMeasured]:
    """Start the app, or a clone in its place, fill it, and offer the load.

    Args:
        clone: the clone's command with ``{port}``, or, of several services, the app with their clones in their place;
            None for the app itself.

    Raises:
        AppError: it failed, or does not answer.
    """
    offered = replace(offered, connections=offered.connections or spec.load.connections or CONNECTIONS)
    if isinstance(clone, AppSpec):
        run = AppRun.for_application(clone)
    else:
        run = AppRun(spec) if clone is None else AppRun.for_clone(spec, clone)
    with run:
        run.prepare()
        progress.update(f"{offered.connections} connections for {offered.seconds:g} s")
        measured = drive(plan if clone is None else clone_plan(plan), run.port, offered, run.host)
        run.check_alive()
    return offered, measured
