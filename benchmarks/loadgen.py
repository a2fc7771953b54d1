"""The load generator against wrk on the same nginx, and against a server whose stalls are known.

Speed: one thread and the app's connections each, closed loop, in turns; requests a second and CPU per request of the
client as ratios to wrk's.  Accuracy: a server that stands still for a tenth of every second; with arrivals at a
constant rate a tenth of the requests waits, evenly from 0 to 100 ms, so that the true p99 is 90 ms.

    python benchmarks/loadgen.py
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ditto.artifacts.app import load_app
from ditto.artifacts.plan import Arrivals, Framing, LoadPlan, Script, Step
from ditto.host.app import AppRun
from ditto.host.exchanges import record_plan
from ditto.host.loadgen import Offered, drive, percentile

ROOT = Path(__file__).resolve().parent.parent
STALL_S, PERIOD_S = 0.1, 1.0


@dataclass(frozen=True)
class Client:
    """One run of a client: requests a second, and its own CPU per request in nanoseconds."""

    rate: float
    cpu_ns: float


def measured(run: Callable[[], float], seconds: float) -> Client:
    """Rate that a client reports, and its CPU over the requests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    rate = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Client(rate, cpu * 1e9 / (rate * seconds))


def speed(turns: int, seconds: float) -> None:
    """wrk and the generator in turns against one nginx."""
    spec = load_app(ROOT / "examples" / "nginx.toml")
    connections = spec.load.connections
    with AppRun(spec) as app, tempfile.TemporaryDirectory(prefix="ditto-bench-") as name:
        app.prepare()
        plan = Path(name) / "requests.plan"
        record_plan(app, None).plan.save(plan)
        url = f"http://{app.host}:{app.port}/file.txt"

        def wrk() -> float:
            command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", url]
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
            return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])

        def ditto() -> float:
            return drive(plan, app.port, Offered(connections=connections, seconds=seconds, warmup=0.0), app.host).rate

        found: dict[str, list[Client]] = {"wrk": [], "ditto load": []}
        for _ in range(turns):
            found["wrk"].append(measured(wrk, seconds))
            found["ditto load"].append(measured(ditto, seconds))
    base = found["wrk"]
    print(
        f"nginx, 1 thread, {connections} connections, {turns} turns of {seconds:g} s; medians, in brackets the spread"
    )
    for name, runs in found.items():
        rates, costs = [r.rate for r in runs], [r.cpu_ns for r in runs]
        print(
            f"  {name:11} {median(rates):9,.0f} requests/s ({(max(rates) - min(rates)) / median(rates):.0%}), "
            f"{median(costs):6,.0f} ns of CPU a request ({(max(costs) - min(costs)) / median(costs):.0%})"
        )
    ours = found["ditto load"]
    rate = median(a.rate / b.rate for a, b in zip(ours, base, strict=True))
    cost = median(a.cpu_ns / b.cpu_ns for a, b in zip(ours, base, strict=True))
    print(f"  ratio to wrk: rate {rate:.3f}, CPU per request {cost:.3f}")


@contextlib.contextmanager
def stalling() -> Iterator[int]:
    """A server that answers 4 bytes to 4 bytes, and stands still for `STALL_S` of every `PERIOD_S`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setblocking(False)
    ended = threading.Event()
    began = time.monotonic()

    def serve() -> None:
        poller = select.epoll()
        poller.register(listener, select.EPOLLIN)
        open_now: dict[int, socket.socket] = {}
        while not ended.is_set():
            for fd, _ in poller.poll(0.2):
                phase = (time.monotonic() - began) % PERIOD_S
                if phase < STALL_S:
                    time.sleep(STALL_S - phase)
                if fd == listener.fileno():
                    sock, _ = listener.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_now[sock.fileno()] = sock
                    poller.register(sock, select.EPOLLIN)
                elif data := open_now[fd].recv(4096):
                    open_now[fd].sendall(data)
                else:
                    poller.unregister(fd)
                    open_now.pop(fd).close()
        for sock in open_now.values():
            sock.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        thread.join()


def accuracy(turns: int, seconds: float) -> None:
    """p99 against the computed truth, by an open and by a closed loop."""
    truth = (STALL_S - 0.01 * PERIOD_S) * 1e3
    with tempfile.TemporaryDirectory(prefix="ditto-bench-") as name, stalling() as port:
        plan = Path(name) / "requests.plan"
        LoadPlan(Framing.BYTES, (Script((Step(b"ping", 4),)),)).save(plan)
        paced = Offered(Arrivals.CONSTANT, 1000.0, 200, seconds=seconds, warmup=1.0)
        opened = [percentile(drive(plan, port, paced).corrected, 99) / 1e6 for _ in range(turns)]
        loop = Offered(connections=10, seconds=seconds, warmup=1.0)
        closed = [percentile(drive(plan, port, loop).corrected, 99) / 1e6 for _ in range(turns)]
    print(f"p99 of a server that stalls {STALL_S * 1e3:.0f} ms a second; truth {truth:.1f} ms, {turns} turns, medians")
    for name, values in (("open loop", opened), ("closed loop", closed)):
        print(f"  {name:12} {median(values):7.2f} ms, {median(values) / truth - 1:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    arguments = parser.parse_args()
    speed(arguments.turns, arguments.seconds)
    accuracy(3, 10.0)


if __name__ == "__main__":
    main()
