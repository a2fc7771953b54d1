"""A store of records in one file larger than the memory it may have: each request reads one, mostly of a hot tenth.

Run in examples/: disk/app.py PORT FILE.
"""

import os
import random
import selectors
import socket
import sys

RECORD = 8192
HOT_SHARE = 0.7


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    store = os.open(path, os.O_RDONLY)
    records = os.fstat(store).st_size // RECORD
    places = list(range(records))
    random.Random(1).shuffle(places)
    waiting = selectors.EpollSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(client, selectors.EVENT_READ)
                continue
            client = key.fileobj
            try:
                asked = client.recv(4096)
            except ConnectionError:
                asked = b""
            if not asked:
                waiting.unregister(client)
                client.close()
                continue
            number = random.randrange(records // 10 if random.random() < HOT_SHARE else records)
            record = os.pread(store, RECORD, places[number] * RECORD)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(record) + record)


main()
