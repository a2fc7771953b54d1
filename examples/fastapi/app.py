"""A small FastAPI application: prices an order that comes as JSON, with some computing, and answers in JSON."""

from __future__ import annotations

import math

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    """One line of an order."""

    name: str
    price: float
    count: int = 1


class Order(BaseModel):
    """What is sent to be priced."""

    customer: str
    items: list[Item]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/price")
async def price(order: Order) -> dict[str, object]:
    subtotal = sum(item.price * item.count for item in order.items)
    spread = math.sqrt(sum((item.price - subtotal / len(order.items)) ** 2 for item in order.items))
    risk = sum(math.exp(-k / 50) * math.sin(k * spread) for k in range(200))
    lines = [{"name": item.name, "total": round(item.price * item.count, 2)} for item in order.items]
    return {"customer": order.customer, "lines": lines, "subtotal": round(subtotal, 2), "risk": round(risk, 6)}
