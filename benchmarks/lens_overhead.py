"""Cost of the lens against callgrind with cache and branch simulation, and against Valgrind doing nothing.

Runs each tool in turn (A B C A B C ...) on redis-server with redis-benchmark, and on a Python loop, and prints CPU
seconds (user + system of the whole server process) with the median ratio.

    python benchmarks/lens_overhead.py --rounds 5 --requests 20000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ditto.host.lens import lens_command, lens_env

PYTHON_LOOP = "d = {}\nfor i in range(60000): d[str(i % 5000)] = d.get(str(i % 977), 0) + i\nprint(len(d))"


def tool_command(tool: str, command: list[str], folder: Path) -> list[str]:
    if tool == "lens":
        return lens_command(command, folder / "out", codec="resp")
    common = ["valgrind", "-q", "--fair-sched=yes"]
    if tool == "callgrind":
        return [*common, "--tool=callgrind", "--cache-sim=yes", "--branch-sim=yes",
                f"--callgrind-out-file={folder / 'cg.out'}", *command]  # fmt: skip
    return [*common, f"--tool={tool}", *command]


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time of a child that has ended, or ends now."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def run_redis(tool: str, requests: int, folder: Path) -> float:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen(tool_command(tool, command, folder), env=lens_env(), stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            if process.poll() is not None:
                sys.exit(f"{tool}: the server ended with {process.returncode}")
            time.sleep(0.05)
    load = ["redis-benchmark", "-p", str(port), "-q", "-n", str(requests), "-c", "20", "-r", "50000", "-d", "100",
            "-t", "get,set"]  # fmt: skip
    subprocess.run(load, stdout=subprocess.DEVNULL, check=True, timeout=300)
    process.terminate()
    return cpu_seconds(process)


def run_python(tool: str, folder: Path) -> float:
    command = tool_command(tool, ["/usr/bin/python3", "-S", "-c", PYTHON_LOOP], folder)
    return cpu_seconds(subprocess.Popen(command, env=lens_env(), stdout=subprocess.DEVNULL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tools = ("lens", "callgrind", "none")
    results: dict[str, dict[str, list[float]]] = {}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(options.rounds):
            for tool in tools:
                redis = run_redis(tool, options.requests, folder)
                results.setdefault("redis", {}).setdefault(tool, []).append(redis)
                results.setdefault("python", {}).setdefault(tool, []).append(run_python(tool, folder))
    if options.json:
        print(json.dumps(results))
        return
    for workload, by_tool in results.items():
        ratios = [a / b for a, b in zip(by_tool["lens"], by_tool["callgrind"], strict=True)]
        medians = ", ".join(f"{tool} {statistics.median(v):.2f} s" for tool, v in by_tool.items())
        print(f"{workload}: {medians}; lens / callgrind {statistics.median(ratios):.2f} ({min(ratios):.2f}"
              f" to {max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
