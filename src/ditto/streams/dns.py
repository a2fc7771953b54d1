"""DNS messages by their first bytes: what is a question, and what shape an answer has."""

from __future__ import annotations

import struct

HEADER = 12
_ANSWER = 0x80
_OPCODE = 0x78


def is_question(message: bytes) -> bool:
    """Whether a message begins like a question: one question, nothing answered."""
    if len(message) < HEADER:
        return False
    asked, answers, others = struct.unpack_from(">HHH", message, 4)
    return not message[2] & (_ANSWER | _OPCODE) and (asked, answers, others) == (1, 0, 0)


def is_answer(message: bytes) -> bool:
    """Whether a message begins like an answer to one question or to none."""
    return len(message) >= HEADER and bool(message[2] & _ANSWER) and message[4:6] in (b"\0\0", b"\0\1")


def answer_shape(message: bytes, total: int) -> tuple[int, int, int, int]:
    """Response code, answers, records of authority, and bytes of all records, of a message of ``total`` bytes."""
    if len(message) < HEADER:
        return 0, 0, 0, max(0, total - HEADER)
    answers, others = struct.unpack_from(">HH", message, 6)
    return message[3] & 15, min(answers, 255), min(others, 255), max(0, total - _question_end(message))


def _question_end(message: bytes) -> int:
    """Where the question ends, or what was recorded of it."""
    at = HEADER
    if message[4:6] == b"\0\0":
        return at
    while at < len(message) and message[at]:
        at += message[at] + 1
    return at + 5
