"""From profile to sources: the IR as text, the tables, and that they are the same each time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ditto.artifacts.profile import Role
from ditto.artifacts.work import Work
from ditto.errors import MissingCapabilityError
from ditto.generate.clone import generate, write_clone
from ditto.generate.memory import arena_limit, file_bytes, threads_with_arena, touched_bytes
from ditto.generate.settle import settle
from ditto.paths import runtime_sources
from profile_parts import block, service_profile

GOLDEN = """\
service service-1 codec resp2 seed 7
knobs instructions=1 dependence=1 irregular=1 entropy=1 period=64 stalls=0 stalls_in_store=0 \
stalls_computed=0 resident_bytes=0 born_pages=0 fresh_pages=0
receive nr=0 bytes=16384 flags=0
send nr=1 flags=0 call_bytes=0 iovs=1 calls_per_wake=0 per_read=1 arm=1
listener backlog=511 accept=288 until_again=0
files 0 regular count=1 depth=1 size=4096
process 0 parent=-1 count=1 roles=[0]
role 0 loop count=1 wait=epoll/232 timeout=-1 listens=1 handover=keep->-1
  accept:
    epoll_add nr=233 a=1
  close:
    close nr=3
  every 100 ms:
    misc nr=39
class 0 p=0.7500 verb=GET print=-1
  reply bulk p=0.9000 status=0 size=100
  reply nil p=0.1000 status=0 size=-
  program:
    compute block=0
    reply nr=1 deferred
class 1 p=0.2500 verb=SET print=-1
  reply simple p=1.0000 status=0 size=2
  program:
    compute block=1
    reply nr=1 deferred
block 0 instructions=1000.0 wanted=1000.0
block 1 instructions=2000.0 wanted=1800.0
block 2 instructions=300.0 wanted=300.0
order p=0.7500 2 0
order p=0.2500 2 1
"""


def tuned() -> object:
    profile = service_profile()
    service = profile.services[0]
    blocks = list(service.blocks)
    aim = Work.model_validate({**block(1800.0).model_dump(include=set(Work.model_fields))})
    blocks[1] = blocks[1].model_copy(update={"aim": aim})
    return profile.model_copy(update={"services": [service.model_copy(update={"blocks": blocks})]})


def test_the_ir_as_text() -> None:
    profile = tuned()
    assert settle(profile, profile.services[0], profile.seed).text() == GOLDEN  # type: ignore[attr-defined, arg-type]


def test_same_profile_and_seed_same_bytes() -> None:
    first, second = (generate(service_profile(), runtime_sources()).files for _ in range(2))
    assert first == second
    assert generate(service_profile(), runtime_sources(), seed=8).files["blocks.S"] != first["blocks.S"]


def test_the_sources_compile_without_warnings(tmp_path: Path) -> None:
    write_clone(generate(service_profile(), runtime_sources()), tmp_path)
    done = subprocess.run(["make", "-C", tmp_path, "CFLAGS=-O1 -Werror"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "clone").is_file()


def test_files_that_are_the_same_are_left_alone(tmp_path: Path) -> None:
    sources = generate(service_profile(), runtime_sources())
    write_clone(sources, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write_clone(sources, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_without_the_runtime_there_is_no_clone(tmp_path: Path) -> None:
    with pytest.raises(MissingCapabilityError):
        generate(service_profile(), tmp_path)


def test_memory_stays_within_the_originals() -> None:
    service = service_profile().services[0].model_copy(update={"resident_bytes": 20_000_000})
    assert threads_with_arena(service) == 1
    limit = arena_limit(service)
    assert 10_000_000 < limit < 20_000_000
    assert limit + touched_bytes(service, limit, 0, 0) < 20_000_000
    assert touched_bytes(service, 4096, 8192, 0) == touched_bytes(service, 4096, 0, 0) - 8192
    assert touched_bytes(service.model_copy(update={"resident_bytes": 0}), 4096, 0, 0) == 0
    assert touched_bytes(service, 4096, 0, -30_000_000) == 0
    assert file_bytes(service, 5_000_000) == 0
    mapping = service.model_copy(update={"file_bytes": 7_000_000})
    assert 5_000_000 < file_bytes(mapping, 10_000_000) < 7_000_000 and file_bytes(mapping, 3_000_000) == 3_000_000


def test_every_block_of_a_role_keeps_its_number() -> None:
    """A block that is dropped moves those after it, whatever field of a role names them."""
    names = [name for name in Role.model_fields if name.endswith("_block")]
    assert len(names) >= 3
    service = service_profile().services[0]
    count = len(service.blocks)
    roles = [service.roles[0].model_copy(update=dict.fromkeys(names, count + 1)), *service.roles[1:]]
    wanted = service.model_copy(update={"blocks": [*service.blocks, block(1.0), block(5000.0)], "roles": roles})
    profile = service_profile().model_copy(update={"services": [wanted]})
    settled = settle(profile, wanted, profile.seed).service
    assert len(settled.blocks) < len(wanted.blocks) and settled.blocks[-1].instructions == 5000
    assert {getattr(settled.roles[0], name) for name in names} == {len(settled.blocks) - 1}
