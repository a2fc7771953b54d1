"""What was done before the window for connections in use in it: only calls that move no data were recorded then."""

from __future__ import annotations

from ditto.streams.cycles import Work, follow
from ditto.streams.events import ACCEPTS, CLOSE, EPOLL_CTL, Event, Obj, Stream
from ditto.streams.messages import join_messages
from ditto.streams.passing import passes
from ditto.streams.pulls import with_pulls

SETUP_NS = 20_000_000
"""What is done to a connection within this time of its making belongs to that."""


def work_of(stream: Stream) -> Work:
    """The events of a native recording's window followed to requests, with what was done before it."""
    work = follow(with_pulls(stream.threads), stream.said)
    take_earlier(work, stream)
    join_messages(work)
    return work


def take_earlier(work: Work, stream: Stream) -> None:
    """Give threads what they did before the window, and connections their accept and set-up there."""
    accepted: dict[Obj, Event] = {}
    for event in stream.outside:
        if event.t_out > stream.window_ns[0]:
            break
        thread = work.threads.get(event.tid)
        if thread is not None:
            thread.earlier.append(event)
        if event.nr in ACCEPTS and event.made in work.lives:
            life = work.lives[event.made]
            life.accept, life.acceptor = event, event.tid
            accepted[event.made] = event
            continue
        obj = event.target if event.nr == EPOLL_CTL or passes(event) else event.obj
        if obj in accepted and event.nr != CLOSE and event.t_out - accepted[obj].t_out < SETUP_NS:
            work.lives[obj].setup.append(event)
