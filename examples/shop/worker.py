"""Takes jobs from the queue, one after the other, and writes them down: ``worker.py PORT QUEUE_PORT DB_PORT``."""

from __future__ import annotations

import json
import socket
import sys

from common import CONSUMER, Database, Store, Telemetry, end_on_sigterm

port, queue_port, db_port = map(int, sys.argv[1:4])
telemetry = Telemetry("worker")
queue = Store(queue_port, telemetry, "queue")
database = Database(db_port, telemetry)
listener = socket.create_server(("127.0.0.1", port))  # tells that it is up; nobody is answered
end_on_sigterm(telemetry)
while True:
    reply = queue.commands(None, [("BRPOP", "jobs", "0")])[0]
    job = json.loads(reply[1])
    request = telemetry.begin("job", job["trace"])
    database.run(request, "UPDATE orders SET count = count + 1 WHERE id = %s", job["user"])
    telemetry.end(request, CONSUMER)
