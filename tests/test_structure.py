"""The rules of the source tree: who imports whom, who prints, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ditto"
STAGES = {"observe", "model", "generate", "run", "validate", "tune", "study", "report", "topology", "plot", "deploy"}
MODULES = sorted(PACKAGE.rglob("*.py"))
C_FILES = sorted(
    path
    for pattern in ("*.c", "*.h", "*.S")
    for path in (ROOT / "native").rglob(pattern)
    if "build" not in path.relative_to(ROOT / "native").parts
)


# Programs of the examples; "memcached" is also the name of a wire protocol, which code may know.
NAMES = {
    "redis", "redis-server", "redis-benchmark", "nginx", "wrk", "memaslap", "memcaslap", "apache2", "gunicorn",
    "haproxy", "postgres", "pgbench", "mariadbd", "mariadb", "sysbench",
}  # fmt: skip


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _part(path: Path) -> str:
    """The part of ditto that a module belongs to: a package such as ``observe``, or a module such as ``pipeline``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, relative imports resolved, inside functions too."""
    package = ("ditto", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def _imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    for line, name in _imports(path):
        words = name.split(".")
        if words[0] == "ditto" and len(words) > 1:
            yield line, words[1]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_one_way(path: Path) -> None:
    part = _part(path)
    if part in {"cli", "pipeline", "__main__"}:
        forbidden: set[str] = set()
    else:
        # Stages and what they share never reach a stage, the list of stages, or the command line.
        forbidden = (STAGES | {"pipeline", "cli"}) - {part}
    wrong = [f"line {line}: ditto.{name}" for line, name in _imported_parts(path) if name in forbidden]
    assert not wrong, f"{_name(path)} imports {wrong}"


@pytest.mark.parametrize("path", [path for path in MODULES if _part(path) == "cli"], ids=_name)
def test_commands_use_the_stages_through_the_pipeline_only(path: Path) -> None:
    wrong = [f"line {line}: ditto.{name}" for line, name in _imported_parts(path) if name in STAGES]
    # `from ditto.cli import observe` is the command, not the stage: only ditto.observe itself counts.
    assert not wrong, f"{_name(path)} imports {wrong}"


@pytest.mark.parametrize("path", [path for path in MODULES if _part(path) not in {"cli", "__main__"}], ids=_name)
def test_library_code_never_prints_or_exits(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "exit", "quit", "sys.exit", "os._exit", "breakpoint", "input"}:
                wrong.append(f"line {node.lineno}: {called}")
            if called in {"sys.stdout.write", "sys.stderr.write"}:
                wrong.append(f"line {node.lineno}: {called}")
        if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
            wrong.append(f"line {node.lineno}: raise SystemExit")
    assert not wrong, f"{_name(path)}: {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_are_short_and_documented(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 440, f"{_name(path)} is long: split it by decision"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{_name(path)} does not say what it is for"


@pytest.mark.parametrize("path", C_FILES, ids=_name)
def test_c_files_are_short_and_licensed(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 340, f"{_name(path)} is long: split it by decision"
    line = next((line for line in text.splitlines()[:3] if "SPDX-License-Identifier:" in line), "")
    if "lens" in path.relative_to(ROOT / "native").parts:
        assert "GPL-2.0-or-later" in line
    elif not path.name.endswith((".bpf.c", ".bpf.h")):
        assert "Apache-2.0" in line
    else:
        assert "SPDX" in line


def test_no_random_or_clock_in_generation() -> None:
    wrong = []
    for path in MODULES:
        if _part(path) != "generate":
            continue
        for line, name in _imports(path):
            if name.split(".")[0] in {"secrets", "uuid", "time", "datetime"}:
                wrong.append(f"{_name(path)}:{line} imports {name}")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called, seeded = ast.unparse(node.func), bool(node.args or node.keywords)
            # A generator with a seed is made where it is used or passed in; the global ones have hidden state.
            global_state = called.startswith(("random.", "np.random.", "numpy.random."))
            if global_state and not (called.endswith((".Random", ".default_rng", ".Generator", ".PCG64")) and seeded):
                wrong.append(f"{_name(path)}:{node.lineno} calls {called} without a seed")
            if called in {"Random", "default_rng"} and not seeded:
                wrong.append(f"{_name(path)}:{node.lineno} makes a generator without a seed")
    assert not wrong


def test_no_app_is_named_in_the_library() -> None:
    wrong = []
    for path in MODULES:
        # Not special cases: the packages of commands, the clients that doctor looks for, the examples of help texts.
        if _part(path) == "cli" or path.name in {"commands.py", "doctor.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(
                isinstance(value, ast.Constant) and value.value in NAMES for value in [node.left, *node.comparators]
            ):
                wrong.append(f"{_name(path)}:{node.lineno}")
    assert not wrong


def test_every_example_is_valid() -> None:
    from ditto.artifacts.app import load_app

    files = sorted([*(ROOT / "examples").glob("*.toml"), *(ROOT / "examples").glob("*/app.toml")])
    assert {"redis.toml", "memcached.toml", "nginx.toml"} <= {path.name for path in files}
    for path in files:
        spec = load_app(path)
        assert spec.port_can_change, path
