"""Building the clones of several tiers: what is the same in all is compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditto.run.build import build_clone, share_objects
from runtime_build import RUNTIME

MAKEFILE = "CC ?= cc\nRUNTIME := runtime\ninclude runtime/runtime.mk\n"


def tier(folder: Path, answer: int) -> Path:
    """A folder as a clone's, of a runtime of one file."""
    (folder / "runtime").mkdir(parents=True)
    (folder / "runtime" / "runtime.mk").write_text((RUNTIME / "runtime.mk").read_text())
    (folder / "runtime" / "main.c").write_text("int answer(void);\nint main(void) { return answer(); }\n")
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "tables.c").write_text(f"int answer(void) {{ return {answer}; }}\n")
    return folder


def test_tiers_of_the_same_runtime_share_what_was_compiled(tmp_path: Path) -> None:
    first, second = tier(tmp_path / "first", 1), tier(tmp_path / "second", 2)
    build_clone(first)
    marked = (first / "build" / "main.o").read_bytes() + b"mark"
    (first / "build" / "main.o").write_bytes(marked)
    share_objects(first, second)
    assert not (second / "build" / "tables.o").exists()
    assert build_clone(second).is_file()
    assert (second / "build" / "main.o").read_bytes() == marked, "make had nothing to do about it"


@pytest.mark.parametrize("other", ["runtime", "built"])
def test_nothing_is_shared_with_another_runtime_or_with_what_was_built(tmp_path: Path, other: str) -> None:
    first, second = tier(tmp_path / "first", 1), tier(tmp_path / "second", 2)
    build_clone(first)
    if other == "runtime":
        (second / "runtime" / "more.h").write_text("\n")
    else:
        build_clone(second)
        (second / "build" / "main.o").unlink()
    share_objects(first, second)
    assert not (second / "build" / "main.o").exists()
