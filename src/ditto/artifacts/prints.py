"""Keyed fingerprints of HTTP paths and other words: they tell them apart without telling what they are.

The clone's runtime computes the same (``ditto_path_print`` in ``native/runtime/codec_http.c``); a test holds the two
together.
"""

from __future__ import annotations

PRINT_BITS = 12
DIGITS = b"0123456789"
WORD_KEY = 0
"""Of the words that requests of an unknown protocol begin with: plans and profiles are made apart from each other."""


def folded(path: bytes) -> bytes:
    """A path (or the key of a class) without its digits: where a service has many paths, these name things."""
    return path.translate(None, DIGITS)


def path_print(key: int, path: bytes) -> int:
    """Fingerprint of an HTTP path without its query, 0 to 4095.

    FNV-1a (32 bits) over the key's four bytes, lowest first, and the path; folded to 12 bits.
    """
    value = 2166136261
    for byte in key.to_bytes(4, "little") + path:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return (value ^ value >> 12 ^ value >> 24) & 0xFFF
