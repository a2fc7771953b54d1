"""The entry: ``gateway.py PORT CATALOG_PORT CART_PORT PRICE_PORT STATIC_PORT``.

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


catalog, cart, price, static = (
    Upstream(name, int(port)) for name, port in zip(("catalog", "cart", "price", "static"), sys.argv[2:6], strict=True)
)


async def product(request: Request, number: int) -> bytes:
    """The item and its price in parallel; for one product in four the style sheet as well."""
    item, cost = await asyncio.gather(
        catalog.call(request, "GET", f"/item/{number}"), price.call(request, "GET", f"/price/{number}")
    )
    if number % 4 == 0:
        await static.call(request, "GET", "/style.css")
    return json.dumps(json.loads(item) | json.loads(cost)).encode()


async def home(request: Request) -> bytes:
    """The banner, then three items one after the other."""
    banner = await static.call(request, "GET", "/banner.html")
    items = [json.loads(await catalog.call(request, "GET", f"/item/{number}")) for number in (1, 2, 3)]
    return json.dumps({"banner": len(banner), "items": items}).encode()


async def answer(request: Request, method: str, path: str, body: bytes) -> bytes:
    """The body of a reply."""
    if path.startswith("/product/"):
        return await product(request, int(path.rpartition("/")[2]))
    if path == "/home":
        return await home(request)
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
