"""Output that waits in pieces: nothing is lost or moved, and what was sent is what the next reply takes."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from pathlib import Path

import pytest

from runtime_build import CODEC_SOURCES, DRIVERS, RUNTIME, SANITIZE, STATIC, build_clone, compile_c, running

PROGRAM = r"""
#include "codec.h"
#include <stdio.h>

/* Commands: w N (write N bytes that count up), f N (reserve and fill in one go), s N (N were sent, which are printed),
 * p (where the next byte would go, and how much waits), r (release). */
int main(void) {
    static struct pool pool;
    struct outbuf out = {.pool = &pool, .piece = 4096};
    unsigned char next = 0, bytes[65536];
    unsigned long n;
    char command;

    pool_start(&pool);
    while (scanf(" %c %lu", &command, &n) == 2) {
        if (command == 'w' || command == 'f') {
            for (unsigned long i = 0; i < n; i++)
                bytes[i] = next++;
            if (command == 'w') {
                codec_append(&out, bytes, n);
            } else {
                memcpy(out_room(&out, n), bytes, n);
                out.end += n;
            }
        } else if (command == 's') {
            for (size_t at = 0, part; at < n; at += part) {
                unsigned char *from;

                part = n - at;
                from = out_span(&out, at, &part);
                for (size_t i = 0; i < part; i++)
                    printf("%02x", from[i]);
            }
            out_took(&out, n);
            printf("\n");
        } else if (command == 'p') {
            printf("%zx ", (size_t)out_room(&out, 1));
            printf("%lu %lu\n", (unsigned long)out_bytes(&out), (unsigned long)out_sent(&out));
        } else {
            out_release(&out);
        }
    }
    out_release(&out);
}
"""


def build(folder: Path, mode: tuple[str, ...]) -> Path:
    source = folder / "outbuf.c"
    source.write_text(PROGRAM)
    runtime = sorted({path for pattern in CODEC_SOURCES for path in RUNTIME.glob(pattern)})
    return compile_c(folder / "outbuf", [*runtime, source, DRIVERS / "tables_resp.c"], (*mode, "-DTEST_FUZZ"))


def told(program: Path, commands: str) -> list[str]:
    return subprocess.run([program], input=commands, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bytes_come_out_as_they_went_in(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    commands, written, sent = [], 0, 0
    for _ in range(400):
        if rng.random() < 0.5:
            n = rng.choice([1, 30, 500, 4096, rng.randrange(1, 20_000)])
            commands.append(f"{rng.choice('wf')} {n}")
            written += n
        elif written > sent:
            n = rng.randrange(1, written - sent + 1)
            commands.append(f"s {n}")
            sent += n
    commands.append("p 0")
    lines = told(build(tmp_path, SANITIZE), "\n".join(commands))
    assert "".join(lines[:-1]) == "".join(f"{n % 256:02x}" for n in range(sent))
    assert lines[-1].split()[1:] == [str(written - sent), str(sent)]


def test_the_next_reply_takes_the_piece_that_was_sent_last(tmp_path: Path) -> None:
    program = build(tmp_path, STATIC)
    # Three pieces and a begun one; the first goes, and the next piece begins where it was.
    lines = told(program, "p 0\nw 12300\ns 4096\nw 5000\np 0\n")
    first, last = lines[0].split()[0], lines[-1].split()[0]
    assert 0 <= int(last, 16) - int(first, 16) < 8192
    # Of one buffer as long as the reply, the next one would take other memory.
    whole = told(program, "p 0\nw 12300\nw 5000\np 0\n")
    assert int(whole[-1].split()[0], 16) - int(whole[0].split()[0], 16) > 4 * 4096


RESTING = r"""
#include "codec.h"
#include <stdio.h>

/* Two connections say in turn what so many bytes are: where the first lay, and what positions they are at then. */
int main(void) {
    static struct pool pool;
    struct outbuf out[2] = {{.pool = &pool}, {.pool = &pool}};
    unsigned long n;

    pool_start(&pool);
    for (int i = 0; scanf("%lu", &n) == 1; i = !i) {
        unsigned char *at = out_room(&out[i], n);

        memset(at, 'x', n);
        out[i].end += n;
        printf("%zx %lu\n", (size_t)at, (unsigned long)out_end(&out[i]));
        out_took(&out[i], n);
        out_rest(&out[i]);
    }
    out_release(&out[0]);
    out_release(&out[1]);
}
"""


@pytest.mark.parametrize("mode", [STATIC, SANITIZE])
def test_connections_with_nothing_to_say_leave_their_buffer_to_the_next(tmp_path: Path, mode: tuple[str, ...]) -> None:
    (tmp_path / "resting.c").write_text(RESTING)
    runtime = sorted({path for pattern in CODEC_SOURCES for path in RUNTIME.glob(pattern)})
    sources = [*runtime, tmp_path / "resting.c", DRIVERS / "tables_resp.c"]
    program = compile_c(tmp_path / "resting", sources, (*mode, "-DTEST_FUZZ"))
    lines = [line.split() for line in told(program, "100 300 200 5000 40 4000 30000 100 60")]
    places = [place for place, _ in lines]
    assert len(set(places[:3])) == 1 and len({*places[3:6], *places[7:]}) == 1
    assert places[3] != places[0] and places[6] != places[3]  # a longer one, which stays; one too long to keep
    assert [end for _, end in lines] == ["100", "300", "300", "5300", "340", "9300", "30340", "9400", "30400"]


def test_connections_between_requests_have_no_buffers(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "resp", "resp", mode=STATIC)) as clone, contextlib.ExitStack() as stack:

        def resident() -> int:
            return int(Path(f"/proc/{clone.process.pid}/statm").read_text().split()[1]) * 4096

        def ask(sock: socket.socket) -> None:
            sock.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert sock.recv(100)

        ask(stack.enter_context(clone.connect()))
        before = resident()
        for _ in range(300):
            ask(stack.enter_context(clone.connect()))
        assert resident() - before < 300 * 2048  # what is known of each; a buffer would touch a page at least
