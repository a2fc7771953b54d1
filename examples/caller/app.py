"""A small WSGI application that asks another service for each of its pages."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

BACKEND = f"http://127.0.0.1:{os.environ['BACKEND_PORT']}/file.txt"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with urllib.request.urlopen(BACKEND, timeout=5) as reply:
        text = reply.read()
    words = text.split()
    body = json.dumps({"bytes": len(text), "words": len(words), "first": len(words[0]) if words else 0}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
