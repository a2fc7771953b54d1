"""Requests for a database's clone from its profile alone: statements of the same classes, with filler."""

from __future__ import annotations

import struct
from itertools import product
from string import ascii_lowercase

import numpy as np

from ditto.artifacts.plan import Framing, LoadPlan, Script, Step, StepFlags
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import RequestClass, ServiceProfile
from ditto.streams import mysql

MOST_SCRIPTS = 64
_LETTERS = 3
_LOGIN = struct.pack("<IIB", 0x0108A205, 1 << 24, 33) + bytes(23) + b"user\0\0mysql_native_password\0"
_WORDS = 3 << 16


def database_plan(service: ServiceProfile, seed: int, requests: int) -> LoadPlan:
    """A plan of ``requests`` statements in the profile's shares; what a connection begins with is its opening.

    Classes that are no statements (a session that begins, a synchronisation) come by themselves or not at all.
    """
    pgsql = service.codec == "pgsql"
    told = [(number, cls) for number, cls in enumerate(service.classes) if _statement(cls)]
    told = told or [(0, service.classes[0])]
    texts = {number: _text(service.print_key, cls) for number, cls in told}
    bound = [number for number, cls in told if cls.match.verb.startswith("Bind_")]
    opening = _pgsql_opening(texts, bound) if pgsql else _mysql_opening(texts, bound)
    generator = np.random.default_rng(seed)
    shares = np.array([cls.probability for _, cls in told], dtype=np.float64)
    steps = []
    for index in generator.choice(len(told), requests, p=shares / shares.sum()):
        number, cls = told[int(index)]
        build = _pgsql_step if pgsql else _mysql_step
        steps.append(build(cls.match.verb, texts[number], bound.index(number) + 1 if number in bound else 0))
    scripts = max(1, min(MOST_SCRIPTS, service.load.connections, requests))
    made = tuple(Script((*opening, *steps[i::scripts]), len(opening)) for i in range(scripts))
    return LoadPlan(Framing.PGSQL if pgsql else Framing.MYSQL, made)


def sample_statement(codec: str, verb: str, key: int, wanted: int, size: int) -> Step:
    """A request of ``size`` bytes, if it can be had, of a database's class with this verb and fingerprint.

    It asks by its text: what a statement that was prepared before is, only its own connection knows.  One that is
    prepared has a parameter, which MySQL's reply describes: hardly any is prepared without.
    """
    build = _pgsql_step if codec == "pgsql" else _mysql_step
    text = _text_of(key, verb, wanted)
    lack = size - len(build(verb, text, 0).request) - len(" ''")
    filler = b"x" * lack
    if codec == "mysql" and verb.startswith("Parse_"):
        filler = b"?" + filler[1:] if filler else b""
    return build(verb, text + (b" '" + filler + b"'" if lack >= 0 else b""), 0)


def _statement(cls: RequestClass) -> bool:
    verb = cls.match.verb.rpartition("_")[2]
    return len(verb) > 1 and verb.isupper()


def _text(key: int, cls: RequestClass) -> bytes:
    return _text_of(key, cls.match.verb, cls.match.path_print)


def _text_of(key: int, name: str, wanted: int) -> bytes:
    """A short statement with a class's verb and fingerprint; any text will do where it has none."""
    verb = name.rpartition("_")[2].encode() or b"SELECT"
    for letters in product(ascii_lowercase, repeat=_LETTERS):
        text = verb + b" " + "".join(letters).encode()
        if wanted in (-1, path_print(key, text)):
            return text
    return verb


def _typed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def _pgsql_opening(texts: dict[int, bytes], bound: list[int]) -> list[Step]:
    names = b"user\0x\0database\0x\0\0"
    steps = [Step(struct.pack(">II", 8 + len(names), _WORDS) + names)]
    for place, number in enumerate(bound):
        steps.append(Step(_typed(b"P", b"s%d\0" % (place + 1) + texts[number] + b"\0\0\0") + _typed(b"S")))
    return steps


def _pgsql_step(verb: str, text: bytes, prepared: int) -> Step:
    name = b"s%d" % prepared if prepared else b""
    run = _typed(b"B", b"\0" + name + b"\0" + bytes(6)) + _typed(b"D", b"P\0") + _typed(b"E", b"\0" + bytes(4))
    if prepared:
        return Step(run + _typed(b"S"))
    if verb.startswith("Parse_"):
        return Step(_typed(b"P", b"\0" + text + b"\0\0\0") + run + _typed(b"S"))
    return Step(_typed(b"Q", text + b"\0"))


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def _mysql_opening(texts: dict[int, bytes], bound: list[int]) -> list[Step]:
    prepared = [_command(mysql.PREPARE, texts[number]) for number in bound]
    return [Step(b""), Step(_packet(1, _LOGIN)), *prepared]


def _mysql_step(verb: str, text: bytes, prepared: int) -> Step:
    if prepared:
        return _command(mysql.EXECUTE, struct.pack("<IBI", prepared, 0, 1))
    return _command(mysql.PREPARE if verb.startswith("Parse_") else mysql.QUERY, text)


def _command(command: int, body: bytes) -> Step:
    return Step(_packet(0, bytes([command]) + body), 0, StepFlags.NO_ENDS)
