"""Products: from the cache, or else from the database: ``catalog.py PORT CACHE_PORT DB_PORT``."""

from __future__ import annotations

import json
import sys

from common import Cache, Database, Request, Telemetry, serve

port, cache_port, db_port = map(int, sys.argv[1:4])
telemetry = Telemetry("catalog")
cache = Cache(cache_port, telemetry)
database = Database(db_port, telemetry)


def handle(request: Request, method: str, path: str, body: bytes) -> bytes:
    """``GET /item/N``: what is not in the cache goes there.  ``PUT /item/N``: what is there goes away."""
    number = path.rpartition("/")[2]
    key = "item:" + number
    if method == "PUT":
        database.run(request, "UPDATE items SET stock = stock + 1 WHERE id = %s", int(number))
        cache.delete(request, key)
        return b"{}"
    value = cache.get(request, key)
    if value is None:
        value = database.run(request, "SELECT body FROM items WHERE id = %s", int(number))[0][0].encode()
        cache.set(request, key, value)
    return json.dumps({"item": value.decode()}).encode()


serve(port, telemetry, handle)
