"""Which class of a profile the requests of a run belong to."""

from __future__ import annotations

from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import ServiceProfile


def class_index(service: ServiceProfile, key: bytes) -> int:
    """Index of the profile's class for a request key (see ``protocol.request_key``); -1 if there is none."""
    codec = service.codec
    if codec == "opaque":
        words = key.split(b" ")
        bits = int(words[1]) if len(words) == 2 and words[1].isdigit() else 0
        low = 1 << max(0, bits - 1)
        for index, cls in enumerate(service.classes):
            if cls.match.min_bytes <= low <= cls.match.max_bytes:
                return index
        return -1
    if codec == "dns":
        return 0
    verb, _, path = key.partition(b" ")
    text = verb.decode("ascii", "replace")
    mark = path_print(service.print_key, path) if codec in ("http1", "fastcgi", "pgsql", "mysql") else -1
    fallback = -1
    for index, cls in enumerate(service.classes):
        if cls.match.verb == text:
            if cls.match.path_print in (-1, mark):
                return index
            fallback = index if fallback < 0 else fallback
    return fallback
