"""Clones under strace, and what it writes of programs with several threads, made whole."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ditto.artifacts.profile import Profile
from ditto.generate.clone import generate, write_clone
from ditto.paths import runtime_sources

_CUT = " <unfinished ...>"
_REST = re.compile(r"(\d+) +<\.\.\. \w+ resumed>")


def whole_calls(log: Path) -> str:
    """The text of a log of `strace -f`, one line a call, in the order in which the calls began.

    strace cuts a call in two where another thread makes one before it has ended.
    """
    lines: list[str] = []
    begun: dict[str, int] = {}
    for line in log.read_text().splitlines():
        rest = _REST.match(line)
        if line.endswith(_CUT):
            begun[line.split(None, 1)[0]] = len(lines)
            lines.append(line.removesuffix(_CUT))
        elif rest is not None and rest[1] in begun:
            lines[begun.pop(rest[1])] += line[rest.end() :]
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def traced_clone(profile: Profile, folder: Path, log: Path) -> Iterator[int]:
    """The clone of a profile, made in ``folder``, under strace; gives its port.  ``log`` is whole when it has ended."""
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    command = ["strace", "-f", "-qq", "-o", str(log), str(folder / "build" / "clone"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as traced:
        assert traced.stdout is not None
        try:
            yield int(traced.stdout.readline().split()[-1])
        finally:
            subprocess.run(["pkill", "-TERM", "-P", str(traced.pid)], check=False)
            traced.wait(timeout=10)
