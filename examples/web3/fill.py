"""Puts the pages into the database: ``fill.py PORT``, and into the cache: ``fill.py PORT cache``."""

from __future__ import annotations

import socket
import sys

import psycopg2

PAGES = 200


def text(page: int) -> str:
    return "text of the page " * (10 + page % 20)


def fill_database(port: int) -> None:
    with psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as database:
        cursor = database.cursor()
        cursor.execute("CREATE TABLE pages (id integer PRIMARY KEY, body text NOT NULL)")
        cursor.execute("CREATE TABLE votes (id integer PRIMARY KEY, count integer NOT NULL) WITH (fillfactor = 50)")
        cursor.executemany("INSERT INTO pages VALUES (%s, %s)", [(page, text(page)) for page in range(PAGES)])
        cursor.executemany("INSERT INTO votes VALUES (%s, 0)", [(page,) for page in range(PAGES)])
    database.close()


def fill_cache(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as store:
        for page in range(PAGES):
            words = [b"SET", b"page:%d" % page, text(page).encode()]
            store.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            assert store.recv(16) == b"+OK\r\n"


if len(sys.argv) > 2:
    fill_cache(int(sys.argv[1]))
else:
    fill_database(int(sys.argv[1]))
