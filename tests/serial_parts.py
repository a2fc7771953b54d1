"""Calls of threads as a recording would tell them, without one; a worker that serves one connection at a time."""

from __future__ import annotations

from ditto.artifacts.syscalls import NUMBERS
from ditto.streams.cycles import Work, follow
from ditto.streams.events import Descriptors, Event, KnownDescriptor, Stream

LISTENER = 3
REQUEST = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"


class Recorder:
    """Calls of threads as a recording would tell them."""

    def __init__(self, pids: tuple[int, ...]) -> None:
        known = [KnownDescriptor(pid, LISTENER, "listener", port=80, identity="l") for pid in pids]
        self.table = Descriptors(known)
        self.threads: dict[int, list[Event]] = {}
        self.now = 0

    def call(self, pid: int, name: str, ret: int, *args: int, payload: bytes = b"") -> None:
        self.now += 1000
        event = Event(pid, pid, NUMBERS[name], ret, (*args, 0, 0, 0, 0, 0, 0)[:6], self.now - 500, self.now)
        event.payload = payload
        event.index = self.now
        self.table.apply(event)
        self.threads.setdefault(pid, []).append(event)

    def work(self) -> Work:
        return follow(self.threads)

    def stream(self) -> Stream:
        return Stream(self.threads, [], {}, {}, set(), (0, self.now), self.table)


def worker(record: Recorder, pid: int, connections: int = 3, requests: int = 4) -> None:
    """Accepts by a blocking call; receives first and polls its one connection only where nothing had come."""
    for _ in range(connections):
        record.call(pid, "getppid", 1)
        record.call(pid, "accept4", 7, LISTENER)
        for _ in range(requests):
            record.call(pid, "read", -11, 7, 0, 8000)
            record.call(pid, "poll", 1, 0, 1, 1000)
            record.call(pid, "read", 20, 7, 0, 8000, payload=REQUEST)
            record.call(pid, "write", 5, 7, 0, 5)
        record.call(pid, "read", 0, 7, 0, 8000)
        record.call(pid, "close", 0, 7)
