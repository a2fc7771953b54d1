"""Reviews of products, with FastAPI: ``uvicorn reviews:app``; DB_PORT tells where the database is."""

from __future__ import annotations

import os

from common import Database, Telemetry, template
from fastapi import FastAPI, Request

app = FastAPI()
telemetry = Telemetry("reviews")
database = Database(int(os.environ["DB_PORT"]), telemetry)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/reviews/{product}")
async def reviews(product: int, http: Request) -> dict[str, object]:
    request = telemetry.begin(template("GET", http.url.path), http.headers.get("traceparent", ""))
    rows = database.run(request, "SELECT stars, words FROM reviews WHERE item = %s", product)
    telemetry.end(request)
    return {"product": product, "stars": sum(row[0] for row in rows) / len(rows), "words": [row[1] for row in rows]}


@app.on_event("shutdown")
def save() -> None:
    telemetry.save()
