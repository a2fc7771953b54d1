"""Output that waits in pieces: nothing is lost or moved, and what was sent is what the next reply takes."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from runtime_build import CODEC_SOURCES, DRIVERS, RUNTIME, SANITIZE, STATIC, compile_c

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
