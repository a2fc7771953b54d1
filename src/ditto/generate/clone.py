"""From a profile to a clone's folder: passes over the IR, then the emitters, then the runtime's sources beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ditto.artifacts.files import write_atomic
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
    if len(profile.services) != 1:
        raise BadInputError(
            f"the profile has {len(profile.services)} services", "generate a clone of each service by itself"
        )
    ir = settle(profile, profile.services[0], profile.seed if seed is None else seed)
    body = emit(ir.blocks, ir.knobs, ir.seed, ir.orders, ir.service.runtime_lines, arena_limit(ir.service))
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
