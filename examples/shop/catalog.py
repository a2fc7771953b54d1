"""Products: from the cache, or else from the store: ``catalog.py PORT CACHE_PORT STORE_PORT``."""

from __future__ import annotations

import json
import sys

from common import Cache, Request, Store, Telemetry, serve

port, cache_port, store_port = map(int, sys.argv[1:4])
telemetry = Telemetry("catalog")
cache = Cache(cache_port, telemetry)
store = Store(store_port, telemetry)


def handle(request: Request, method: str, path: str, body: bytes) -> bytes:
    """``GET /item/N``: what is not in the cache goes there for a second."""
    key = "item:" + path.rpartition("/")[2]
    value = cache.get(request, key)
    if value is None:
        value = store.commands(request, [("GET", key)])[0] or b""
        cache.set(request, key, value)
    return json.dumps({"item": value.decode()}).encode()


serve(port, telemetry, handle)
