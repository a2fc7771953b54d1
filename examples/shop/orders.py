"""Orders: ``orders.py PORT QUEUE_PORT DB_PORT``."""

from __future__ import annotations

import json
import sys

from common import Database, Request, Store, Telemetry, serve

port, queue_port, db_port = map(int, sys.argv[1:4])
telemetry = Telemetry("orders")
queue = Store(queue_port, telemetry, "queue")
database = Database(db_port, telemetry)


def handle(request: Request, method: str, path: str, body: bytes) -> bytes:
    """``POST /order/N``: a job for the worker.  ``GET /order/N``: how many orders a customer has."""
    user = path.rpartition("/")[2]
    if method == "POST":
        job = json.dumps({"user": int(user), "trace": request.traceparent})
        return json.dumps({"waiting": int(queue.commands(request, [("LPUSH", "jobs", job)])[0])}).encode()
    rows = database.run(request, "SELECT count FROM orders WHERE id = %s", int(user))
    return json.dumps({"orders": rows[0][0]}).encode()


serve(port, telemetry, handle)
