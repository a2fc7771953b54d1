"""Reviews of products and what else to look at, with FastAPI: ``uvicorn reviews:app``.

DB_PORT tells where the database is, SIMILAR_PORT where the gRPC service is that knows similar products.
"""

from __future__ import annotations

import os
import struct

import grpc
from common import Database, Telemetry, template
from fastapi import FastAPI, Request

app = FastAPI()
telemetry = Telemetry("reviews")
database = Database(int(os.environ["DB_PORT"]), telemetry)
channel = grpc.insecure_channel(f"127.0.0.1:{os.environ['SIMILAR_PORT']}")
similar = channel.unary_unary("/shop.Similar/Of")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/reviews/{product}")
async def reviews(product: int, http: Request) -> dict[str, object]:
    request = telemetry.begin(template("GET", http.url.path), http.headers.get("traceparent", ""))
    rows = database.run(request, "SELECT stars, words FROM reviews WHERE item = %s", product)
    call = telemetry.call(request, "similar", "shop.Similar/Of")
    found = similar(b"\x0d" + struct.pack("<I", product), metadata=(("traceparent", call.traceparent),))
    telemetry.called(call, "similar")
    others = [struct.unpack_from("<I", found, at + 1)[0] for at in range(0, len(found), 5)]
    stars = sum(row[0] for row in rows) / max(1, len(rows))
    telemetry.end(request)
    return {"product": product, "stars": stars, "words": [row[1] for row in rows], "similar": others}


@app.on_event("shutdown")
def save() -> None:
    telemetry.save()
