"""Puts data where it belongs: ``fill.py db|cache|store PORT``."""

from __future__ import annotations

import sys

from common import Cache, Database, Store, Telemetry

what, port = sys.argv[1], int(sys.argv[2])
PRODUCTS, USERS = 400, 50
if what == "db":
    database = Database(port, Telemetry("fill"))
    database.run(None, "CREATE TABLE items (id int PRIMARY KEY, stock int, body text) WITH (fillfactor = 50)")
    database.run(None, "CREATE TABLE orders (id int PRIMARY KEY, count int) WITH (fillfactor = 50)")
    database.run(None, "CREATE TABLE reviews (item int, stars int, words text)")
    rows = "generate_series(0, %s) AS i"
    database.run(
        None,
        f"INSERT INTO items SELECT i, 0, 'product ' || i || repeat('x', 100 + mod(i, 300)) FROM {rows}",
        PRODUCTS - 1,
    )
    database.run(None, f"INSERT INTO orders SELECT i, 0 FROM {rows}", USERS - 1)
    database.run(
        None, f"INSERT INTO reviews SELECT i / 3, 1 + mod(i, 5), repeat('good ', 10) FROM {rows}", 3 * PRODUCTS - 1
    )
    database.run(None, "CREATE INDEX ON reviews (item)")
elif what == "cache":
    cache = Cache(port, Telemetry("fill"))
    for item in range(PRODUCTS):
        cache.set(None, f"item:{item}", b"product %d" % item + b"x" * (100 + item % 300))
else:
    store = Store(port, Telemetry("fill"))
    for user in range(USERS):
        items = (str((user * 13 + i) % PRODUCTS) for i in range(3))
        store.commands(None, [("RPUSH", f"cart:{user}", *items)])
