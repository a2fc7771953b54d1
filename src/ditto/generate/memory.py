"""Decision: how much memory each thread's body works on, and how much is touched besides."""

from __future__ import annotations

from ditto.artifacts.profile import ServiceProfile

RUNTIME_BYTES = 1_500_000
"""A clone without arenas: its program, stacks and file contents."""
PROGRAM_BYTES = 1_000_000
"""Of these what is in the clone's own file."""
SMALLEST_ARENA = 64 << 10
LARGEST_ARENA = 256 << 20


def threads_with_arena(service: ServiceProfile) -> int:
    """Threads and processes of the service that run blocks."""
    total = 0
    for process in service.processes:
        for number in process.roles:
            role = service.roles[number]
            if role.kind == "serve":
                total += max(1, service.load.connections)
            elif role.kind != "idle":
                total += role.count * process.count
    return max(1, total)


def arena_limit(service: ServiceProfile) -> int:
    """Most bytes for the arena of one thread, so that all of them fit into the original's resident memory."""
    room = _room(service) if service.resident_bytes else LARGEST_ARENA
    return max(SMALLEST_ARENA, min(LARGEST_ARENA, room // threads_with_arena(service)))


def touched_bytes(service: ServiceProfile, arena_bytes: int, shared_bytes: int, correction: int) -> int:
    """Bytes to touch at start beyond runtime, arenas and what threads share; ``correction`` is what tuning found
    missing."""
    bodies = arena_bytes * threads_with_arena(service) + shared_bytes
    return max(0, max(0, _room(service) - service.born_bytes - bodies) + correction)


def file_bytes(service: ServiceProfile, touched: int) -> int:
    """Of so many bytes to touch those that are pages of files, as the original's are."""
    return min(touched, max(0, service.file_bytes - PROGRAM_BYTES))


def _room(service: ServiceProfile) -> int:
    """Resident bytes that neither the program nor what clients store in it takes."""
    return service.resident_bytes - RUNTIME_BYTES - service.stored_bytes
