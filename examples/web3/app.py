"""Pages and votes, a WSGI application for gunicorn.

A page is in the cache, or else it is read from the database and put there; every third asks for its votes too.  A vote
goes to the database, and what the cache has of the page is thrown away.  ``DB_PORT`` and ``STORE_PORT`` tell where they
are.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg2

requests: Counter[str] = Counter()
calls: Counter[tuple[str, str, str]] = Counter()


class Store:
    """One connection to Redis; commands whose replies are lines or bulk strings."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.file = self.connection.makefile("rb")

    def ask(self, endpoint: str, *words: bytes) -> bytes | None:
        calls[endpoint, "store", words[0].decode()] += 1
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.connection.sendall(b"*%d\r\n" % len(words) + b"".join(parts))
        line = self.file.readline()
        if line[:1] == b"$":
            return self.file.read(int(line[1:]) + 2)[:-2] if int(line[1:]) >= 0 else None
        return line[1:].strip()


class Database:
    """One connection to PostgreSQL; each statement is a transaction."""

    def __init__(self, port: int) -> None:
        self.connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()

    def ask(self, endpoint: str, statement: str, *values: object) -> Any:
        verb = statement.split(" ", 1)[0]
        calls[endpoint, "db", verb] += 1
        self.cursor.execute(statement, values)
        return self.cursor.fetchone()[0] if verb == "SELECT" else None


store = Store(int(os.environ["STORE_PORT"]))
database = Database(int(os.environ["DB_PORT"]))


def page(endpoint: str, number: int) -> bytes:
    """The text of a page, and with some its votes."""
    key = b"page:%d" % number
    text = store.ask(endpoint, b"GET", key)
    if text is None:
        text = database.ask(endpoint, "SELECT body FROM pages WHERE id = %s", number).encode()
        store.ask(endpoint, b"SET", key, text)
    if number % 3 == 0:
        text += b" votes: %d" % database.ask(endpoint, "SELECT count FROM votes WHERE id = %s", number)
    return text


def vote(endpoint: str, number: int) -> bytes:
    """Count one."""
    database.ask(endpoint, "UPDATE votes SET count = count + 1 WHERE id = %s", number)
    return store.ask(endpoint, b"DEL", b"page:%d" % number) or b""


def application(environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Answer one request."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    place, _, number = path.rpartition("/")
    endpoint = f"{method} {place}/{{id}}" if place else f"{method} /"
    requests[endpoint] += 1
    if place == "/page":
        body = page(endpoint, int(number))
    elif place == "/vote":
        body = vote(endpoint, int(number))
    else:
        body = store.ask(endpoint, b"DBSIZE") or b""
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@atexit.register
def save() -> None:
    """Write the counts of this worker."""
    folder = os.environ.get("WEB3_COUNTS")
    if folder:
        listed = [[*key, count] for key, count in sorted(calls.items())]
        text = json.dumps({"requests": dict(requests), "calls": listed}, indent=1)
        (Path(folder) / f"app-{os.getpid()}.json").write_text(text + "\n")
