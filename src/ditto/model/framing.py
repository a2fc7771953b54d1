"""How HTTP replies end, where their heads were not recorded as far as the line that tells."""

from __future__ import annotations

from ditto.artifacts.profile import Dist, ReplyShape


def _unframed(size: int) -> int:
    """The payload of a chunked body of ``size`` bytes that is one chunk: without its two lines and the last chunk."""
    return next((s for digits in range(1, 9) if len(f"{(s := size - 9 - digits):x}") == digits and s > 0), 0)


def framed(shape: ReplyShape, framing: str, closes: float) -> ReplyShape:
    """An HTTP reply that ends as observed, where its head was not recorded as far as the line that tells."""
    if shape.kind != "http" or shape.size is None:
        return shape
    if framing == "close" and closes == 1.0:
        return shape.model_copy(update={"kind": "http_close"})
    if framing == "chunked" and min(shape.size.values) > 0:
        smaller = Dist(values=[_unframed(value) for value in shape.size.values], weights=shape.size.weights)
        return shape.model_copy(update={"kind": "http_chunked", "size": smaller})
    return shape
