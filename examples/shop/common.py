"""What the shop's Python services share: counting, spans, a small HTTP server, and clients of servers and databases.

Every service counts the requests it gets and the calls it makes; with ``SHOP_COUNTS=FOLDER`` they are written to
``FOLDER/NAME.json`` when it ends, as ``{"requests": {endpoint: n}, "calls": [[endpoint, service, target, n], ...]}``.
With ``SHOP_TRACES=FOLDER`` it writes its spans to ``FOLDER/NAME.jsonl``, one OTLP request a line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

SERVER, CLIENT, CONSUMER = 2, 3, 5


@dataclass
class Request:
    """A request under way: whose span its calls hang on."""

    endpoint: str
    trace: str
    span: str
    parent: str
    began: int = field(default_factory=time.time_ns)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.span}-01"


class Telemetry:
    """What a service knows of its own requests and calls."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._requests: Counter[str] = Counter()
        self._calls: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        folder = os.environ.get("SHOP_TRACES")
        self._spans = (Path(folder) / f"{service}.jsonl").open("a") if folder else None

    def begin(self, endpoint: str, traceparent: str = "") -> Request:
        """A request came in."""
        with self._lock:
            self._requests[endpoint] += 1
        parts = traceparent.split("-")
        trace, parent = (parts[1], parts[2]) if len(parts) == 4 else (os.urandom(16).hex(), "")
        return Request(endpoint, trace, os.urandom(8).hex(), parent)

    def end(self, request: Request, kind: int = SERVER) -> None:
        """Its reply was sent, or its work is done."""
        self._write(request, request.endpoint, kind, {})

    def call(self, request: Request | None, service: str, target: str) -> Request:
        """A call is about to be made for a request."""
        if request is None:
            return Request(target, "", "", "")
        with self._lock:
            self._calls[request.endpoint, service, target] += 1
        return Request(target, request.trace, os.urandom(8).hex(), request.span)

    def called(self, call: Request, service: str, system: str = "") -> None:
        """Its reply is here."""
        more = {"db.system": system} if system else {}
        if call.trace:
            self._write(call, call.endpoint, CLIENT, {"peer.service": service} | more)

    def _write(self, request: Request, name: str, kind: int, attributes: dict[str, str]) -> None:
        if self._spans is None:
            return
        span = {
            "traceId": request.trace, "spanId": request.span, "parentSpanId": request.parent, "name": name,
            "kind": kind, "startTimeUnixNano": str(request.began), "endTimeUnixNano": str(time.time_ns()),
            "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
        }  # fmt: skip
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": self.service}}]}
        line = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})
        with self._lock:
            self._spans.write(line + "\n")

    def save(self) -> None:
        """Write the counts and what is left of the spans."""
        with self._lock:
            calls = [[*key, count] for key, count in sorted(self._calls.items())]
            text = json.dumps({"requests": dict(self._requests), "calls": calls}, indent=1)
            folder = os.environ.get("SHOP_COUNTS")
            if folder:
                (Path(folder) / f"{self.service}.json").write_text(text + "\n")
            if self._spans is not None:
                self._spans.flush()


def template(method: str, path: str) -> str:
    """The endpoint of a path: ``GET /product/7`` is ``GET /product/{id}``."""
    return f"{method} " + "/".join("{id}" if part.isdigit() else part for part in path.split("?")[0].split("/"))


@dataclass
class Head:
    """The head of an HTTP message: its first line's words, its headers in lower case."""

    words: list[str]
    headers: dict[str, str]

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))


def parse_head(data: bytes) -> Head:
    """The head, without the empty line at its end."""
    first, *lines = data.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Head(first.split(" ", 2), headers)


def http_request(method: str, path: str, traceparent: str, body: bytes = b"") -> bytes:
    """A request, whole, for one send."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: shop\r\ntraceparent: {traceparent}\r\n{length}\r\n"
    return head.encode() + body


def http_reply(body: bytes, status: str = "200 OK") -> bytes:
    """A reply, whole, for one send."""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Stream:
    """A connection that blocks, read by lines and lengths."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.waiting = b""

    def until(self, mark: bytes) -> bytes | None:
        """What comes before a mark; None at the end of the connection."""
        while mark not in self.waiting:
            data = self.connection.recv(16384)
            if not data:
                return None
            self.waiting += data
        found, _, self.waiting = self.waiting.partition(mark)
        return found

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self.waiting) < size:
            data = self.connection.recv(16384)
            if not data:
                raise ConnectionError("the other side ended early")
            self.waiting += data
        found, self.waiting = self.waiting[:size], self.waiting[size:]
        return found


class _PerThread(threading.local):
    """A connection that each thread keeps open for itself."""

    stream: Stream | None = None
    cursor: Any = None


class Client:
    """A server that a service calls, over one connection a thread."""

    def __init__(self, port: int, telemetry: Telemetry) -> None:
        self.port = port
        self.telemetry = telemetry
        self._own = _PerThread()

    def stream(self) -> Stream:
        if self._own.stream is None:
            self._own.stream = Stream(socket.create_connection(("127.0.0.1", self.port)))
        return self._own.stream


class Http(Client):
    """An HTTP service."""

    def __init__(self, name: str, port: int, telemetry: Telemetry) -> None:
        super().__init__(port, telemetry)
        self.name = name

    def get(self, request: Request, path: str) -> bytes:
        call = self.telemetry.call(request, self.name, template("GET", path))
        stream = self.stream()
        stream.connection.sendall(http_request("GET", path, call.traceparent))
        head = stream.until(b"\r\n\r\n")
        if head is None:
            raise ConnectionError(f"{self.name} ended the connection")
        body = stream.exactly(parse_head(head).length)
        self.telemetry.called(call, self.name)
        return body


class Database(Client):
    """PostgreSQL, over one connection a thread; each statement is a transaction."""

    def run(self, request: Request | None, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement; its rows where it asks for some."""
        call = self.telemetry.call(request, "db", statement.split(" ", 1)[0])
        cursor = self._own.cursor
        if cursor is None:
            connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres")
            connection.autocommit = True
            cursor = self._own.cursor = connection.cursor()
        cursor.execute(statement, values)
        rows = cursor.fetchall() if cursor.description else []
        self.telemetry.called(call, "db", "postgresql")
        return rows


class Store(Client):
    """A Redis server: the store, unless it has another name."""

    def __init__(self, port: int, telemetry: Telemetry, name: str = "store") -> None:
        super().__init__(port, telemetry)
        self.name = name

    def commands(self, request: Request | None, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send commands at once, then read all replies."""
        calls = [self.telemetry.call(request, self.name, command[0]) for command in commands]
        stream = self.stream()
        stream.connection.sendall(b"".join(_resp(command) for command in commands))
        replies = []
        for call in calls:
            replies.append(_resp_reply(stream))
            self.telemetry.called(call, self.name, "redis")
        return replies


def _resp(words: tuple[str, ...]) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(f"${len(data)}\r\n".encode() + data + b"\r\n")
    return b"".join(parts)


def _resp_reply(stream: Stream) -> Any:
    line = stream.until(b"\r\n")
    if line is None or line[:1] == b"-":
        raise ConnectionError(f"the store said {line!r}")
    if line[:1] == b"$":
        size = int(line[1:])
        return stream.exactly(size + 2)[:-2] if size >= 0 else None
    if line[:1] == b"*":
        return [_resp_reply(stream) for _ in range(int(line[1:]))]
    return line[1:]


class Cache(Client):
    """The cache, which speaks memcached's text protocol."""

    def get(self, request: Request, key: str) -> bytes | None:
        call = self.telemetry.call(request, "cache", "get")
        stream = self.stream()
        stream.connection.sendall(f"get {key}\r\n".encode())
        line = stream.until(b"\r\n") or b"END"
        value = None
        if line.startswith(b"VALUE"):
            value = stream.exactly(int(line.split()[3]) + 2)[:-2]
            stream.until(b"END\r\n")
        self.telemetry.called(call, "cache", "memcached")
        return value

    def set(self, request: Request | None, key: str, value: bytes) -> None:
        call = self.telemetry.call(request, "cache", "set")
        stream = self.stream()
        stream.connection.sendall(f"set {key} 0 0 {len(value)}\r\n".encode() + value + b"\r\n")
        stream.until(b"\r\n")
        self.telemetry.called(call, "cache", "memcached")

    def delete(self, request: Request, key: str) -> None:
        call = self.telemetry.call(request, "cache", "delete")
        stream = self.stream()
        stream.connection.sendall(f"delete {key}\r\n".encode())
        stream.until(b"\r\n")
        self.telemetry.called(call, "cache", "memcached")


Handler = Callable[[Request, str, str, bytes], bytes]


def serve(port: int, telemetry: Telemetry, handle: Handler) -> None:
    """Serve for ever, a thread for each connection."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    end_on_sigterm(telemetry)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_one, args=(Stream(connection), telemetry, handle), daemon=True).start()


def end_on_sigterm(telemetry: Telemetry) -> None:
    """Write the counts when the service is asked to end."""

    def end(*_: object) -> None:
        telemetry.save()
        sys.stdout.flush()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)


def _serve_one(stream: Stream, telemetry: Telemetry, handle: Handler) -> None:
    while (data := stream.until(b"\r\n\r\n")) is not None:
        head = parse_head(data)
        body = stream.exactly(head.length) if head.length else b""
        if head.words[1] == "/health":
            stream.connection.sendall(http_reply(b"{}"))
            continue
        request = telemetry.begin(template(*head.words[:2]), head.headers.get("traceparent", ""))
        answer = handle(request, head.words[0], head.words[1], body)
        stream.connection.sendall(http_reply(answer))
        telemetry.end(request)
    stream.connection.close()
