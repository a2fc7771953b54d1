"""What strace writes of programs with several threads, made whole."""

from __future__ import annotations

import re
from pathlib import Path

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
