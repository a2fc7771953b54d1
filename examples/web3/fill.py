"""Puts the pages into the store: ``fill.py PORT``."""

from __future__ import annotations

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as store:
    for page in range(200):
        words = [b"SET", b"page:%d" % page, b"text of the page " * (10 + page % 20)]
        store.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        assert store.recv(16) == b"+OK\r\n"
