"""Puts the products and the carts into the store: ``fill.py PORT``."""

from __future__ import annotations

import sys

from common import Store, Telemetry

store = Store(int(sys.argv[1]), Telemetry("fill"))
for product in range(400):
    store.commands(None, [("SET", f"item:{product}", f"product {product} " + "x" * (100 + product % 300))])
for user in range(50):
    store.commands(None, [("RPUSH", f"cart:{user}", *(str((user * 13 + i) % 400) for i in range(3)))])
