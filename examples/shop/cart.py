"""Carts: ``cart.py PORT STORE_PORT PRICE_PORT``."""

from __future__ import annotations

import json
import sys

from common import Http, Request, Store, Telemetry, serve

port, store_port, price_port = map(int, sys.argv[1:4])
telemetry = Telemetry("cart")
store = Store(store_port, telemetry)
price = Http("price", price_port, telemetry)


def handle(request: Request, method: str, path: str, body: bytes) -> bytes:
    """``GET /cart/N``: the price of each item, one after the other.  ``POST /cart/N``: three commands at once."""
    key = "cart:" + path.rpartition("/")[2]
    if method == "POST":
        item = body.decode().partition("=")[2]
        commands = [("LPUSH", key, item), ("LTRIM", key, "0", "2"), ("EXPIRE", key, "3600")]
        return json.dumps({"items": int(store.commands(request, commands)[0])}).encode()
    items = store.commands(request, [("LRANGE", key, "0", "-1")])[0]
    prices = [json.loads(price.get(request, f"/price/{item.decode()}"))["price"] for item in items]
    return json.dumps({"sum": sum(prices)}).encode()


serve(port, telemetry, handle)
