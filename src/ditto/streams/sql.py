"""What tells the requests of database connections apart: the verb of a statement and its text up to the first literal.

The text stays in the observation; a profile holds the verb, a public word, and a keyed fingerprint of the text.  The
runtime (``native/runtime/sql.c``) and lens (``native/lens/sql.c``) compute the same.
"""

from __future__ import annotations

WINDOW = 36
"""Bytes of a statement that are looked at: as many as the first 64 bytes of a request hold behind its head."""
MOST_LETTERS = 15
_LEADING = b" \t\r\n;("


def statement_key(query: bytes) -> bytes:
    """``VERB text`` of a statement: digits within names are left out, the text ends before the first literal."""
    window = query[:WINDOW].split(b"\0", 1)[0].lstrip(_LEADING)
    letters = 0
    while letters < min(len(window), MOST_LETTERS) and _is_letter(window[letters]):
        letters += 1
    text = bytearray()
    before = 0
    for byte in window:
        if byte == 0x27:
            break
        if 0x30 <= byte <= 0x39:
            if not _is_word(before):
                break
        else:
            text.append(byte)
        before = byte
    while text and not _is_word(text[-1]):
        text.pop()
    return window[:letters].upper() + b" " + bytes(text)


def _is_letter(byte: int) -> bool:
    return 0x41 <= byte & ~0x20 <= 0x5A


def _is_word(byte: int) -> bool:
    return _is_letter(byte) or 0x30 <= byte <= 0x39 or byte == 0x5F or byte >= 0x80
