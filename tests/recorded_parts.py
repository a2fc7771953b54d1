"""Small apps of several services for tests of recording: their calls are known exactly."""

from __future__ import annotations

import sys
from pathlib import Path

from ditto.artifacts.app import AppSpec, load_app

TIER = '''
"""A tier over HTTP: leaf answers; pool calls two others in parallel from worker threads, then one of them again."""
import socket, sys, threading
from concurrent.futures import ThreadPoolExecutor
port, how = int(sys.argv[1]), sys.argv[2]
others = [int(place) if place.isdigit() else place for place in sys.argv[3:]]
own = threading.local()

def head(connection):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        piece = connection.recv(4096)
        if not piece: return None
        data += piece
    return data

def call(to, path):
    table = own.__dict__.setdefault("open", {})
    if to not in table and isinstance(to, str):
        table[to] = socket.socket(socket.AF_UNIX); table[to].connect(to)
    elif to not in table: table[to] = socket.create_connection(("127.0.0.1", to))
    table[to].sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    return head(table[to])

def serve(connection):
    while (request := head(connection)) is not None:
        path = request.split()[1].decode()
        if how == "pool" and path.startswith("/both"):
            first, second = pool.submit(call, others[0], "/x"), pool.submit(call, others[1], "/y")
            first.result(), second.result()
            call(others[0], "/z")
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()

def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()

pool = ThreadPoolExecutor(3)
if how == "leaf" and others:
    local = socket.socket(socket.AF_UNIX); local.bind(others[0]); local.listen(64)
    threading.Thread(target=accept, args=(local,), daemon=True).start()
accept(socket.create_server(("127.0.0.1", port), backlog=64))
'''

CLIENT = '''
"""Requests over two connections at once: client.py PORT REQUESTS PATH..."""
import socket, sys, threading
port, count, paths = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

def run(number):
    connection = socket.create_connection(("127.0.0.1", port))
    for turn in range(count // 2):
        path = paths[(turn + number) % len(paths)]
        connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
        data = b""
        while b"\\r\\n\\r\\n" not in data:
            piece = connection.recv(4096)
            if not piece: sys.exit("the server ended the connection")
            data += piece

threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
'''


def write_tiers(folder: Path, requests: int = 60, extra: str = "", local: bool = False) -> AppSpec:
    """Three services: ``front`` calls ``left`` and ``right`` in parallel, then ``left``; ``/one`` calls nobody.

    With ``local`` it calls ``left`` by a local socket.
    """
    (folder / "tier.py").write_text(TIER)
    (folder / "client.py").write_text(CLIENT)
    python = sys.executable
    text = f"""
name = "tiers"
[[service]]
name = "front"
command = ["{python}", "tier.py", "{{port}}", "pool", "{{port:left}}", "{{port:right}}"]
port = 20101
[[service]]
name = "left"
command = ["{python}", "tier.py", "{{port}}", "leaf"]
port = 20102
[[service]]
name = "right"
command = ["{python}", "tier.py", "{{port}}", "leaf"]
port = 20103
{extra}
[load]
command = ["{python}", "client.py", "{{port}}", "{{requests}}", "/both/7", "/one"]
requests = {requests}
connections = 2
"""
    if local:
        text = text.replace("{port:left}", "left.sock").replace('"leaf"', '"leaf", "left.sock"', 1)
    (folder / "app.toml").write_text(text)
    return load_app(folder / "app.toml")
