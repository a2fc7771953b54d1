"""Behind the entry: ``gateway.py PORT CATALOG_PORT CART_PORT PRICE_PORT REVIEWS_PORT ORDERS_PORT``.

One thread, asyncio, pooled connections.
"""

from __future__ import annotations

import asyncio
import json
import sys

from common import Request, Telemetry, end_on_sigterm, http_reply, http_request, parse_head, template

telemetry = Telemetry("gateway")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """A service behind the gateway: connections that are free now, and a new one if none is."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.free: list[Connection] = []

    async def call(self, request: Request, method: str, path: str, body: bytes = b"") -> bytes:
        call = telemetry.call(request, self.name, template(method, path))
        connection = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = connection
        writer.write(http_request(method, path, call.traceparent, body))
        head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        answer = await reader.readexactly(head.length)
        self.free.append(connection)
        telemetry.called(call, self.name)
        return answer


catalog, cart, price, reviews, orders = (
    Upstream(name, int(port))
    for name, port in zip(("catalog", "cart", "price", "reviews", "orders"), sys.argv[2:7], strict=True)
)


async def product(request: Request, number: int) -> bytes:
    """The item and its price in parallel; for one product in four its reviews as well."""
    item, cost = await asyncio.gather(
        catalog.call(request, "GET", f"/item/{number}"), price.call(request, "GET", f"/price/{number}")
    )
    answer = json.loads(item) | json.loads(cost)
    if number % 4 == 0:
        answer |= json.loads(await reviews.call(request, "GET", f"/reviews/{number}"))
    return json.dumps(answer).encode()


async def home(request: Request) -> bytes:
    """Three items one after the other."""
    items = [json.loads(await catalog.call(request, "GET", f"/item/{number}")) for number in (1, 2, 3)]
    return json.dumps({"items": items}).encode()


async def answer(request: Request, method: str, path: str, body: bytes) -> bytes:
    """The body of a reply."""
    if path.startswith("/product/"):
        number = int(path.rpartition("/")[2])
        return (
            await product(request, number) if method == "GET" else await catalog.call(request, "PUT", f"/item/{number}")
        )
    if path == "/home":
        return await home(request)
    if path.startswith("/order/"):
        return await orders.call(request, method, path, body)
    return await cart.call(request, method, path, body)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All requests of one connection."""
    try:
        while True:
            head = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
            body = await reader.readexactly(head.length) if head.length else b""
            method, path = head.words[:2]
            if path == "/health":
                writer.write(http_reply(b"{}"))
                continue
            request = telemetry.begin(template(method, path), head.headers.get("traceparent", ""))
            writer.write(http_reply(await answer(request, method, path, body)))
            telemetry.end(request)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=128)
    end_on_sigterm(telemetry)
    await server.serve_forever()


asyncio.run(main())
