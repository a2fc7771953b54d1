"""Ditto: observe a running Linux service and generate a synthetic clone of it."""

__version__ = "0.1.0"
