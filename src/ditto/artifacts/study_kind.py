"""The kinds of studies; apart from the artifact, for the command line names them in every help."""

from __future__ import annotations

from enum import StrEnum


class StudyKind(StrEnum):
    """What is changed: a busy neighbour, the CPU time allowed, the memory allowed, the rate of requests, the number
    of connections, the CPU time that one service of several is allowed."""

    INTERFERENCE = "interference"
    CORES = "cores"
    MEMORY = "memory"
    LOAD = "load"
    CONNECTIONS = "connections"
    TIERS = "tiers"
