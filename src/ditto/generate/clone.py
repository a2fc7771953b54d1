"""From a profile to a clone's folder: passes over the IR, then the emitters, then the runtime's sources beside."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ditto.artifacts.files import write_atomic
from ditto.artifacts.knobs import Knobs
from ditto.artifacts.profile import Profile
from ditto.errors import BadInputError, MissingCapabilityError
from ditto.generate.body import BodyCode, emit
from ditto.generate.ir import CloneIR
from ditto.generate.memory import arena_limit
from ditto.generate.settle import settle
from ditto.generate.tables import emit_tables

_ENVIRONMENT = Environment(
    loader=PackageLoader("ditto.generate"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
)


@dataclass(frozen=True)
class CloneSources:
    """A clone as text: file name relative to its folder -> content."""

    ir: CloneIR
    body: BodyCode
    files: dict[str, str]


def generate(profile: Profile, runtime: Path, seed: int | None = None) -> CloneSources:
    """Generate the sources of a clone.  Same profile and seed, same bytes.

    Args:
        profile: validated; nothing in it is trusted beyond its schema.
        runtime: the runtime's sources, copied into the clone.
        seed: another seed than the profile's own.

    Raises:
        MissingCapabilityError: the runtime's sources are not there.
        BadInputError: the profile has several services (one clone is one service).
    """
    ir = _settled(profile, seed)
    body = body_of(profile, seed)
    files = {
        "tables.c": emit_tables(ir, body),
        "blocks.S": body.assembly,
        "clone.ir": ir.text(),
        "profile.json": profile.model_dump_json(indent=1) + "\n",
    }
    for name in ("Makefile", "Dockerfile", "README.md"):
        files[name] = _ENVIRONMENT.get_template(name + ".j2").render(service=ir.service)
    files |= _runtime_files(runtime)
    return CloneSources(ir, body, files)


MOST_BODIES = 32
"""That are kept: tuning comes back to what it had, and turns knobs that no body depends on."""
_bodies: dict[str, BodyCode] = {}
_keeping = threading.Lock()


def body_of(profile: Profile, seed: int | None = None) -> BodyCode:
    """The body of a profile's clone, which takes most of the time that generating does; kept for the next time.

    Raises:
        BadInputError: the profile has several services.
    """
    ir = _settled(profile, seed)
    key = _key(ir)
    found = _bodies.get(key)
    if found is None:
        lines, sets = ir.service.runtime_lines, ir.service.runtime_sets
        found = emit(ir.blocks, ir.knobs, ir.seed, ir.orders, lines, arena_limit(ir.service), runtime_sets=sets)
    _keep(key, found)
    return found


def has_body(profile: Profile, seed: int | None = None) -> bool:
    """Whether the body of a profile's clone was made before and is known still."""
    return _key(_settled(profile, seed)) in _bodies


def keep_body(profile: Profile, seed: int | None, body: BodyCode) -> None:
    """Know the body of a profile's clone that another process made."""
    _keep(_key(_settled(profile, seed)), body)


def _keep(key: str, body: BodyCode) -> None:
    with _keeping:
        _bodies.pop(key, None)
        _bodies[key] = body
        while len(_bodies) > MOST_BODIES:
            del _bodies[next(iter(_bodies))]


def _settled(profile: Profile, seed: int | None) -> CloneIR:
    if len(profile.services) != 1:
        raise BadInputError(
            f"the profile has {len(profile.services)} services", "generate a clone of each service by itself"
        )
    return settle(profile, profile.services[0], profile.seed if seed is None else seed)


def _key(ir: CloneIR) -> str:
    """What `emit` is given, so far as bodies depend on it."""
    of_runtime = {"stalls", "stalls_in_store", "stalls_computed", "resident_bytes", "born_pages", "fresh_pages"}
    knobs = Knobs.model_validate(ir.knobs.model_dump(exclude=of_runtime))
    told = (knobs, ir.seed, ir.orders, ir.service.runtime_lines, ir.service.runtime_sets, arena_limit(ir.service))
    text = [repr(told), *(block.model_dump_json() for block in ir.blocks)]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def _runtime_files(runtime: Path) -> dict[str, str]:
    sources = sorted(p for p in runtime.glob("*") if p.suffix in (".c", ".h", ".mk"))
    if not any(p.name == "main.c" for p in sources):
        raise MissingCapabilityError(
            f"{runtime}: the clone runtime's sources are not there", "set DITTO_NATIVE to native/"
        )
    return {f"runtime/{p.name}": p.read_text(encoding="utf-8") for p in sources}


def write_clone(sources: CloneSources, folder: Path) -> None:
    """Write the sources; files that are the same already are left alone, so that make has little to do."""
    for name, content in sources.files.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_atomic(path, content)
