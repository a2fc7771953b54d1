"""Clones that run here, watched: what is asked for, and what is told of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """How clones are run.

    Attributes:
        port: that clients use; of an application, its entry's.
        host: that it listens on.
        base_port: of an application's other tiers, and the ports that follow; their own or free ones without it.
        data: where they keep the files they make; an application's tiers each in a folder there.
        seconds: until they are ended; for ever without it.
        restart: whether one that ends is started again.
    """

    port: int
    host: str
    base_port: int | None = None
    data: Path | None = None
    seconds: float | None = None
    restart: bool = True


@dataclass(frozen=True)
class Running:
    """One that answers."""

    name: str
    pid: int
    port: int
    log: Path
