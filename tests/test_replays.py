"""The load generator stands in for an app's own client only where replies have the sizes that were recorded."""

from __future__ import annotations

import socketserver
import threading

import pytest

from ditto.artifacts.plan import Framing, LoadPlan, Script, Step
from ditto.host.drive import in_step


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with as many bytes as its number tells, and some more that its server has."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"v" * (int(line) + self.server.more))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("more", "same"), [(0, True), (1, False), (-1, False)])
def test_replies_of_other_sizes_are_no_replay(more: int, same: bool) -> None:
    plan = LoadPlan(Framing.BYTES, (Script(tuple(Step(b"%d\n" % size, size) for size in (5, 90, 3))),))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.more = more  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert in_step(plan, "127.0.0.1", server.server_address[1]) is same
        server.shutdown()


def test_a_server_that_is_gone_replays_nothing() -> None:
    assert not in_step(LoadPlan(Framing.BYTES, (Script((Step(b"x", 1),)),)), "127.0.0.1", 1)
