"""Pages and votes: ``app.py PORT STORE_PORT``.  Two workers, each serving one connection at a time.

A page is read from the store; every third asks for its votes too.  A vote is counted, and the list of the
best is trimmed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

WORKERS = 2
port, store_port = int(sys.argv[1]), int(sys.argv[2])
requests: Counter[str] = Counter()
calls: Counter[tuple[str, str]] = Counter()


class Store:
    """One connection to the store; commands whose replies are lines or bulk strings."""

    def __init__(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", store_port))
        self.file = self.connection.makefile("rb")

    def ask(self, endpoint: str, *words: str) -> bytes:
        calls[endpoint, words[0]] += 1
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        self.connection.sendall((f"*{len(words)}\r\n" + "".join(parts)).encode())
        line = self.file.readline()
        if line[:1] == b"$" and int(line[1:]) >= 0:
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line[1:].strip()


def answer(store: Store, method: str, path: str) -> bytes:
    """The body of a reply."""
    number = path.rpartition("/")[2]
    if path.startswith("/page/"):
        endpoint = f"{method} /page/{{id}}"
        requests[endpoint] += 1
        text = store.ask(endpoint, "GET", f"page:{number}")
        votes = store.ask(endpoint, "ZSCORE", "votes", number) if int(number) % 3 == 0 else b""
        return text + votes
    if path.startswith("/vote/"):
        endpoint = f"{method} /vote/{{id}}"
        requests[endpoint] += 1
        store.ask(endpoint, "ZINCRBY", "votes", "1", number)
        return store.ask(endpoint, "ZREMRANGEBYRANK", "votes", "0", "-151")
    requests[f"{method} /"] += 1
    return store.ask(f"{method} /", "ZCARD", "votes")


def save(*_: object) -> None:
    """Write the counts and end."""
    folder = os.environ.get("WEB3_COUNTS")
    if folder:
        listed = [[endpoint, "store", command, count] for (endpoint, command), count in sorted(calls.items())]
        text = json.dumps({"requests": dict(requests), "calls": listed}, indent=1)
        (Path(folder) / f"app-{os.getpid()}.json").write_text(text + "\n")
    os._exit(0)


def work(listener: socket.socket) -> None:
    """Serve one connection after the other, one request each."""
    signal.signal(signal.SIGTERM, save)
    store = Store()
    while True:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                piece = connection.recv(8192)
                if not piece:
                    break
                data += piece
            else:
                method, path = data.decode("latin-1").split(" ", 2)[:2]
                body = answer(store, method, path)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    workers = []
    for _ in range(WORKERS):
        pid = os.fork()
        if not pid:
            work(listener)
        workers.append(pid)

    def end(*_: object) -> None:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        for pid in workers:
            os.waitpid(pid, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pause()


main()
