"""Which class of a profile the requests of a run belong to."""

from __future__ import annotations

from ditto.artifacts.prints import WORD_KEY, folded, path_print
from ditto.artifacts.profile import ServiceProfile


def class_index(service: ServiceProfile, key: bytes) -> int:
    """Index of the profile's class for a request key (see ``protocol.request_key``); -1 if there is none."""
    codec = service.codec
    if codec == "opaque":
        return _opaque_index(service, key)
    if codec == "dns":
        return 0
    verb, _, path = (folded(key) if service.folds else key).partition(b" ")
    text = verb.decode("ascii", "replace")
    mark = path_print(service.print_key, path) if codec in ("http1", "fastcgi", "pgsql", "mysql", "h2") else -1
    fallback = -1
    # Another clone asks a database by its text for what its original had prepared (`sql_class_of_text` of the runtime).
    for name in (text, f"Bind_{text}") if codec in ("pgsql", "mysql") else (text,):
        for index, cls in enumerate(service.classes):
            if cls.match.verb == name:
                if cls.match.path_print in (-1, mark):
                    return index
                fallback = index if fallback < 0 else fallback
    return fallback


def _opaque_index(service: ServiceProfile, key: bytes) -> int:
    """As the clone's codec does: by word and size, else by one of them."""
    kind, _, rest = key.partition(b" ")
    number, _, word = rest.partition(b" ")
    if not number.isdigit():
        return -1
    if kind == b"class":
        return int(number) if int(number) < len(service.classes) else -1
    low = 1 << max(0, int(number) - 1)
    mark = int(word[1:]) if word[1:].isdigit() else path_print(WORD_KEY, word) if word else -1
    fits = [cls.match.min_bytes <= low <= cls.match.max_bytes for cls in service.classes]
    named = [cls.match.path_print == mark for cls in service.classes]
    for wanted in ([f and n for f, n in zip(fits, named, strict=True)], named if word else fits, fits):
        if any(wanted):
            return wanted.index(True)
    return -1
