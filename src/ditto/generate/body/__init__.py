"""Synthetic instruction blocks from block statistics: ``emit`` turns profile blocks into assembly and its facts."""

from ditto.generate.body.emit import emit
from ditto.generate.body.facts import BlockFacts, BodyCode, Layout, Pool
from ditto.generate.body.reach import Order

__all__ = ["BlockFacts", "BodyCode", "Layout", "Order", "Pool", "emit"]
