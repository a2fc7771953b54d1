"""A small server and its client for tests of an app's life, and looking for what an app leaves behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ditto.artifacts.app import AppSpec, load_app

SERVER = """
import os, signal, socket, sys, time
port, how = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "plain"
print("starting", how, flush=True)
if how == "early":
    print("no database", file=sys.stderr, flush=True); sys.exit(3)
if how == "never":
    time.sleep(600)
if how == "daemon":
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0: time.sleep(600)
if how == "chatty":
    for _ in range(40000): print("x" * 100)
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port)); s.listen(64)
print("serving", flush=True)
while True:
    c, _ = s.accept()
    data = c.recv(100)
    if data == b"die": os._exit(9)
    if data == b"burn":
        end = time.process_time() + 0.3
        while time.process_time() < end: pass
    if data: c.sendall(data)
    c.close()
"""

CLIENT = """
import socket, sys, time
port, count, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "ping"
if how == "fail":
    print("cannot agree with the server", file=sys.stderr); sys.exit(4)
if how == "hang":
    time.sleep(600)
for _ in range(count):
    c = socket.create_connection(("127.0.0.1", port)); c.sendall(how.encode()); c.recv(100); c.close()
print(count, "requests")
"""


def write_app(folder: Path, server: str = "plain", client: str = "ping", extra: str = "", service: str = "") -> AppSpec:
    """An app in ``folder`` whose server and client behave in the ways named."""
    (folder / "server.py").write_text(SERVER)
    (folder / "client.py").write_text(CLIENT)
    python = sys.executable
    text = f"""
name = "small"
{extra}
[service]
command = ["{python}", "server.py", "{{port}}", "{server}"]
port = 20001
{service}
[load]
command = ["{python}", "client.py", "{{port}}", "{{requests}}", "{client}"]
requests = {{ native = 20, lens = 3 }}
"""
    (folder / "app.toml").write_text(text)
    return load_app(folder / "app.toml")


def processes_in(folder: Path) -> list[str]:
    """Command lines of live processes whose working directory is ``folder``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and os.readlink(f"/proc/{name}/cwd") == str(folder):
                    found.append(Path(f"/proc/{name}/cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found
