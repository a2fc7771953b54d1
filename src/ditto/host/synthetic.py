"""Requests for a clone from its profile alone: the same classes in the same shares, of the same sizes, with filler."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

import numpy as np

from ditto.artifacts.plan import OPAQUE_HEAD_BYTES, Framing, LoadPlan, Script, Step, StepFlags, opaque_request
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import ClassMatch, Dist, ServiceProfile
from ditto.errors import BadInputError
from ditto.host.requests_h2 import filler_request, script_of, whole_request
from ditto.host.synthetic_sql import database_plan, sample_statement
from ditto.streams import fastcgi

REQUESTS = 4096
MOST_SCRIPTS = 64
_KEYS = 10_000
_WITH_BODY = {"POST", "PUT", "PATCH"}
_WITH_PATHS = (Framing.HTTP1, Framing.FASTCGI, Framing.H2)
_BY_SIZE = 0xFFFF
"""In place of a class in the opaque framing: whoever is asked finds it by the size."""
_PATHS_TRIED = 200_000
_DNS_REST, _DNS_LABEL = 16, 63
"""Bytes of a question beside its name, and the most of a part of a name."""
_ARITY = {
    "PING": 1, "DBSIZE": 1, "INFO": 1, "SAVE": 1, "BGSAVE": 1, "BGREWRITEAOF": 1, "SET": 3, "SETNX": 3, "GETSET": 3,
    "APPEND": 3, "LPUSH": 3, "RPUSH": 3, "SADD": 3, "SISMEMBER": 3, "SREM": 3, "HGET": 3, "HDEL": 3, "HEXISTS": 3,
    "ZSCORE": 3, "ZRANK": 3, "INCRBY": 3, "DECRBY": 3, "EXPIRE": 3, "MSET": 3, "GETRANGE": 4, "LRANGE": 4,
    "LTRIM": 4, "LSET": 4, "HSET": 4, "SETEX": 4, "ZADD": 4, "ZRANGE": 4, "ZREVRANGE": 4,
}  # fmt: skip
"""Words of a RESP command where the class takes any number; two, the command and a key, for those not named."""
_NUMBERS = {"LRANGE": (b"0", b"99"), "ZRANGE": (b"0", b"99"), "ZREVRANGE": (b"0", b"99"), "GETRANGE": (b"0", b"99"),
            "LTRIM": (b"0", b"99"), "SETEX": (b"1000",), "INCRBY": (b"1",), "DECRBY": (b"1",), "EXPIRE": (b"1000",),
            "ZADD": (b"1",), "LSET": (b"0",)}  # fmt: skip


class HasMatch(Protocol):
    """A class of requests, as far as it tells how they are recognised."""

    @property
    def match(self) -> ClassMatch: ...


def synthetic_plan(service: ServiceProfile, seed: int = 1, requests: int = REQUESTS) -> LoadPlan:
    """A plan of ``requests`` requests drawn from the profile's classes and sizes; same profile and seed, same plan.

    Raises:
        BadInputError: the service takes requests that the load generator does not send.
    """
    if service.codec in ("pgsql", "mysql"):
        return database_plan(service, seed, requests)
    if service.codec == "h2":
        return _h2_plan(service, seed, requests)
    builders = _DATAGRAM_BUILDERS if service.listener.datagrams else _BUILDERS
    if service.codec not in builders:
        how = ", over datagrams" if service.listener.datagrams else ""
        raise BadInputError(
            f"{service.name} takes requests that ditto load does not send ({service.codec}{how})",
            "load it with a client of its protocol",
        )
    generator = np.random.default_rng(seed)
    framing, build = builders[service.codec]
    shares = np.array([c.probability for c in service.classes], dtype=np.float64)
    chosen = generator.choice(len(service.classes), requests, p=shares / shares.sum())
    paths = [_path_of(service.print_key, c) for c in service.classes] if framing in _WITH_PATHS else []
    steps = []
    for index in chosen:
        cls = service.classes[int(index)]
        size = _drawn(cls.request_bytes, generator)
        key = int(generator.integers(_KEYS))
        steps.append(build(cls, int(index), size, key, paths[int(index)] if paths else b""))
    scripts = max(1, min(MOST_SCRIPTS, service.load.connections, requests))
    return LoadPlan(framing, tuple(Script(tuple(steps[i::scripts])) for i in range(scripts)))


def _h2_plan(service: ServiceProfile, seed: int, requests: int) -> LoadPlan:
    generator = np.random.default_rng(seed)
    shares = np.array([c.probability for c in service.classes], dtype=np.float64)
    paths = [_path_of(service.print_key, cls) for cls in service.classes]
    asked = []
    for index in generator.choice(len(service.classes), requests, p=shares / shares.sum()):
        cls = service.classes[int(index)]
        size = _drawn(cls.request_bytes, generator)
        asked.append(filler_request(cls.match.verb or "GET", paths[int(index)], is_grpc(cls), size))
    scripts = max(1, min(MOST_SCRIPTS, service.load.connections, requests))
    return LoadPlan(Framing.H2, tuple(script_of(asked[i::scripts]) for i in range(scripts)))


def sample_requests(
    codec: str, print_key: int, classes: Sequence[HasMatch], sizes: Sequence[Sequence[int]]
) -> list[list[Step]]:
    """Requests of each class of a service, one for each of the sizes wanted; their keys differ.

    Args:
        codec: how the service is spoken to.
        print_key: of its path fingerprints.
        classes: how it recognises its requests.
        sizes: bytes of the requests wanted, by class.
    """
    if codec in ("pgsql", "mysql"):
        return [
            [sample_statement(codec, cls.match.verb, print_key, cls.match.path_print, size) for size in wanted]
            for cls, wanted in zip(classes, sizes, strict=True)
        ]
    framing, build = _BUILDERS[codec]
    found = []
    for cls, wanted in zip(classes, sizes, strict=True):
        path = _path_of(print_key, cls) if framing in _WITH_PATHS else b""
        found.append([build(cls, _BY_SIZE, size, key, path) for key, size in enumerate(wanted)])
    return found


def _drawn(dist: Dist, generator: np.random.Generator) -> int:
    weights = np.asarray(dist.weights, dtype=np.float64)
    return int(generator.choice(np.asarray(dist.values), p=weights / weights.sum()))


def _path_of(print_key: int, cls: HasMatch) -> bytes:
    """A short path with the class's fingerprint; any path will do where it has none.

    It has digits only where the fingerprint without them is another: both will be right.
    """
    wanted, without = cls.match.path_print, cls.match.fold_print
    if wanted < 0:
        return b"/"
    path = _tried(print_key, wanted if without < 0 else without, lambda number: b"/%s" % _letters(number))
    return path if without < 0 else _tried(print_key, wanted, lambda number: path + b"%d" % number)


def _tried(print_key: int, wanted: int, make: Callable[[int], bytes]) -> bytes:
    return next(p for n in count() for p in [make(n)] if path_print(print_key, p) == wanted or n == _PATHS_TRIED)


def _letters(number: int) -> bytes:
    """A number in letters."""
    return (b"%x" % number).translate(bytes.maketrans(b"0123456789", b"ghijklmnop"))


def _http(cls: HasMatch, _index: int, size: int, _key: int, path: bytes) -> Step:
    verb = cls.match.verb or "GET"
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n" % (verb.encode(), path)
    flags = StepFlags.NOBODY if verb == "HEAD" else StepFlags.NONE
    if verb in _WITH_BODY:
        body = max(0, size - len(head) - len(b"Content-Length: 10000\r\n\r\n"))
        return Step(head + b"Content-Length: %d\r\n\r\n" % body + b"x" * body, 0, flags)
    room = size - len(head) - 2
    pad = b"A: " + b"x" * (room - 5) + b"\r\n" if room >= 5 else b""
    return Step(head + pad + b"\r\n", 0, flags)


def _resp(cls: HasMatch, _index: int, size: int, key: int, _path: bytes) -> Step:
    verb = cls.match.verb or "PING"
    words = max(1, cls.match.argc or _ARITY.get(verb, 2))
    arguments = [verb.encode()]
    if words > 1:
        arguments.append(b"key:%012d" % key)
    numbers = list(_NUMBERS.get(verb, ()))
    while len(arguments) < words:
        arguments.append(numbers.pop(0) if numbers else b"x")
    lack = size - len(_resp_words(arguments))
    if lack > 0 and words > 1:
        # The last word grows, and with it the digits that tell its length.
        last = len(arguments) - 1 if not _NUMBERS.get(verb) or words - 2 > len(_NUMBERS[verb]) else 1
        arguments[last] = arguments[last].ljust(len(arguments[last]) + lack, b"x")
        over = len(_resp_words(arguments)) - size
        arguments[last] = arguments[last][: len(arguments[last]) - over]
    elif lack < 0 and words > 1:
        whole, kept = arguments[1], max(1, len(arguments[1]) + lack)
        arguments[1] = whole[-kept:]
        # The length of a shorter key may have a digit less.
        arguments[1] = whole[-kept - max(0, size - len(_resp_words(arguments))) :]
    return Step(_resp_words(arguments))


def _resp_words(arguments: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


def _memcached(cls: HasMatch, _index: int, size: int, key: int, _path: bytes) -> Step:
    verb = (cls.match.verb or "get").encode()
    name = b"key%09d" % key
    if verb in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
        tail = b" 1" if verb == b"cas" else b""
        head = b"%s %s 0 0 %d%s\r\n"
        data = max(0, size - len(head % (verb, name, 1, tail)) - 2)
        data = max(0, data - (len(str(data)) - 1))
        return Step(head % (verb, name, data, tail) + b"x" * data + b"\r\n")
    if verb in (b"incr", b"decr", b"touch"):
        return Step(b"%s %s 1\r\n" % (verb, name))
    if verb in (b"get", b"gets", b"delete"):
        room = max(1, min(250, size - len(verb) - 3))
        return Step(b"%s %s\r\n" % (verb, name[-room:].ljust(room, b"x")))
    if verb == b"ms":
        head = b"ms %s %d\r\n"
        data = max(0, size - len(head % (name, max(1, size))) - 2)
        return Step(head % (name, data) + b"x" * data + b"\r\n")
    if verb in (b"mg", b"md", b"ma"):
        return Step(b"%s %s%s\r\n" % (verb, name, b" v" if verb == b"mg" else b""))
    if verb in (b"gat", b"gats"):
        return Step(b"%s 1000 %s\r\n" % (verb, name))
    return Step(b"version\r\n")


def _fastcgi(cls: HasMatch, _index: int, size: int, _key: int, path: bytes) -> Step:
    """The connection is kept where the class does not always end it."""
    kept = getattr(cls, "closes", 0.0) < 1.0
    params = fastcgi.param(b"REQUEST_METHOD", (cls.match.verb or "GET").encode()) + fastcgi.param(b"SCRIPT_NAME", path)
    room = size - len(fastcgi.request(params, kept)) - len(fastcgi.param(b"X", b"", wide=True))
    if room >= 0:
        params += fastcgi.param(b"X", b"x" * min(room, fastcgi.FULL_RECORD - len(params)), wide=True)
    return Step(fastcgi.request(params, kept), 0, StepFlags.NONE if kept else StepFlags.CLOSE)


def _h2(cls: HasMatch, _index: int, size: int, _key: int, path: bytes) -> Step:
    return Step(whole_request(filler_request(cls.match.verb or "GET", path, is_grpc(cls), size)))


def is_grpc(cls: object) -> bool:
    """Whether the replies of a class are gRPC's."""
    return any(reply.kind == "grpc" for reply in getattr(cls, "replies", ()))


def _opaque(_cls: HasMatch, index: int, size: int, _key: int, _path: bytes) -> Step:
    return Step(opaque_request(size, index))


def _short(cls: HasMatch, index: int, size: int, key: int, path: bytes) -> Step:
    """A datagram, which may be too short for a header."""
    return _opaque(cls, index, size, key, path) if size >= OPAQUE_HEAD_BYTES else Step(bytes(size))


def _dns(_cls: HasMatch, _index: int, size: int, key: int, _path: bytes) -> Step:
    """A question for an address, its name as long as there is room."""
    room = min(253, max(5, size - _DNS_REST))
    name = (b"%x" % key).rjust(room - 2, b"n")
    labels = [name[at : at + _DNS_LABEL] for at in range(0, len(name), _DNS_LABEL + 1)]
    wire = b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"
    return Step(struct.pack(">6H", key & 0xFFFF, 0x100, 1, 0, 0, 0) + wire + struct.pack(">2H", 1, 1))


_Builder = Callable[[HasMatch, int, int, int, bytes], Step]
_BUILDERS: dict[str, tuple[Framing, _Builder]] = {
    "http1": (Framing.HTTP1, _http),
    "resp2": (Framing.RESP2, _resp),
    "memcached": (Framing.MEMCACHED, _memcached),
    "opaque": (Framing.OPAQUE, _opaque),
    "fastcgi": (Framing.FASTCGI, _fastcgi),
    "h2": (Framing.H2, _h2),
}
_DATAGRAM_BUILDERS: dict[str, tuple[Framing, _Builder]] = {
    "opaque": (Framing.DATAGRAM, _short),
    "dns": (Framing.DNS, _dns),
}
