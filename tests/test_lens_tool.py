"""The lens tool on programs whose answer is known exactly."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ditto.artifacts.lens import PREV_START, LensProcess, load_lens
from ditto.host.lens import lens_command, lens_env
from ditto.paths import lens_directory
from ditto.streams.lens_read import LensReader

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(
        not (lens_directory() / "lens-amd64-linux").is_file(), reason="the lens is not built: make -C native/lens"
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

EXIT = "mov $60, %eax\nxor %edi, %edi\nsyscall\n"


def build_asm(folder: Path, body: str, data: str = "") -> Path:
    source = folder / "p.S"
    source.write_text(f".globl _start\n.text\n.balign 64\n_start:\n{body}\n{EXIT}\n.data\n.balign 4096\n{data}\n")
    program = folder / "p"
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-o", program, source], check=True)
    return program


def build_c(folder: Path, text: str, *flags: str) -> Path:
    source = folder / "p.c"
    source.write_text(text)
    program = folder / "p"
    subprocess.run(["gcc", "-O1", *flags, "-o", program, source], check=True)
    return program


def run_all(folder: Path, program: Path, *options: str) -> list[LensProcess]:
    command = lens_command([str(program)], folder / "out", extra=options)
    subprocess.run(command, env=lens_env(), check=True, timeout=60, capture_output=True)
    return sorted((load_lens(p) for p in folder.glob("out.*.lens")), key=lambda p: p.pid)


def run(folder: Path, program: Path, *options: str) -> LensProcess:
    (process,) = run_all(folder, program, *options)
    return process


def totals(process: LensProcess) -> tuple[int, int, int]:
    return int(process.instructions.sum()), int(process.load_hist.sum()), int(process.store_hist.sum())


def test_counts_of_instructions_loads_and_dead_loads(tmp_path: Path) -> None:
    """1009 rounds of a loop whose three loads are never used, one store, and a bit test that touches no memory."""
    body = """
    mov $1009, %ecx
    lea buf(%rip), %rsi
    mov $5, %edx
    1: mov (%rsi), %rax
    mov 8(%rsi), %rax
    mov 16(%rsi), %rax
    bt %rdx, %rcx
    mov %rcx, 24(%rsi)
    dec %ecx
    jnz 1b
    """
    process = run(tmp_path, build_asm(tmp_path, body, "buf: .zero 64"))
    assert totals(process) == (3 + 1009 * 7 + 3, 1009 * 3, 1009)
    assert process.load_hist.sum(0)[0] == 1009 * 3 - 1  # always the same line, after the first touch
    assert process.load_hist.sum(0)[23] == 1
    loop = [b for b in process.branches if b["executions"]]
    assert [(int(b["executions"]), int(b["taken"]), int(b["transitions"])) for b in loop] == [(1009, 1008, 1)]
    mix = LensReader(process).iform_mix(range(len(process.keys)))
    assert mix["mov_l"] == 3027
    assert mix["bit_r"] == mix["jcc"] == mix["mov_s"] == 1009
    assert sum(mix.values()) == process.instructions.sum()


@pytest.mark.parametrize("lines", [5, 8, 9, 16, 17, 64, 100, 300, 800, 4097])
def test_cyclic_walk_has_one_distance(tmp_path: Path, lines: int) -> None:
    """Walking over n lines in a cycle: every touch after the first round has distance n - 1."""
    rounds = 7
    body = f"""
    mov ${rounds}, %ecx
    2: lea buf(%rip), %rsi
    mov ${lines}, %edx
    1: mov (%rsi), %rax
    add $64, %rsi
    dec %edx
    jnz 1b
    dec %ecx
    jnz 2b
    """
    process = run(tmp_path, build_asm(tmp_path, body, f"buf: .zero {64 * lines}"))
    expected = np.zeros(24, int)
    expected[23] = lines
    expected[(lines - 1).bit_length()] = (rounds - 1) * lines
    assert process.load_hist.sum(0).tolist() == expected.tolist()
    # Lines in a row fill 64 sets of 12 evenly; sets with more of them keep none until it comes again.
    whole, more = divmod(lines, 64)
    crowded = (whole > 12) * (64 - more) * whole + (whole + 1 > 12) * more * (whole + 1)
    assert process.data_set_misses.sum() == lines + (rounds - 1) * crowded
    pages = (64 * lines + 4095) // 4096
    assert process.page_hist.sum(0)[23] == pages
    assert process.page_hist.sum() == rounds * lines
    site = max(process.sites, key=lambda s: int(s["executions"]))
    assert (int(site["executions"]), int(site["stride"]), int(site["zero_stride"])) == (rounds * lines, 64, 0)
    assert int(site["same_stride"]) == rounds * lines - 2 - 2 * (rounds - 1)  # each jump back breaks the stride twice


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "bucket"), [(1 << 21, 21), ((1 << 21) + 1, 22)])
def test_the_deepest_buckets(tmp_path: Path, lines: int, bucket: int) -> None:
    """Three rounds over 2**21 lines are distance 2**21 - 1; one line more is beyond what the stack keeps."""
    body = f"""
    mov $3, %ecx
    2: lea buf(%rip), %rsi
    mov ${lines}, %edx
    1: mov (%rsi), %rax
    add $64, %rsi
    dec %edx
    jnz 1b
    dec %ecx
    jnz 2b
    """
    process = run(tmp_path, build_asm(tmp_path, body, f".bss\n.balign 4096\nbuf: .zero {64 * lines}"))
    histogram = process.load_hist.sum(0)
    assert (histogram[23], histogram[bucket]) == (lines, 2 * lines)
    assert histogram.sum() == 3 * lines


def test_lines_of_one_set_push_each_other_out(tmp_path: Path) -> None:
    """Thirteen lines a page apart are one more than a set of 12 keeps, though they are few."""
    for lines, missed in ((12, 12), (13, 13 * 7)):
        body = f"""
        mov $7, %ecx
        2: lea buf(%rip), %rsi
        mov ${lines}, %edx
        1: mov (%rsi), %rax
        add $4096, %rsi
        dec %edx
        jnz 1b
        dec %ecx
        jnz 2b
        """
        folder = tmp_path / str(lines)
        folder.mkdir()
        process = run(folder, build_asm(folder, body, f"buf: .zero {4096 * lines}"))
        assert process.data_set_misses.sum() == missed
        assert process.code_set_misses.sum() == process.code_hist.sum(0)[23]


def test_access_over_two_lines_counts_both(tmp_path: Path) -> None:
    process = run(tmp_path, build_asm(tmp_path, "mov buf+60(%rip), %rax\nmov %rax, buf+124(%rip)", "buf: .zero 256"))
    assert process.load_hist.sum(0)[23] == 2
    assert (process.store_hist.sum(0)[0], process.store_hist.sum(0)[23]) == (1, 1)


def test_rep_is_one_instruction_and_its_iterations_are_kept_apart(tmp_path: Path) -> None:
    body = """
    mov $11, %ebx
    1: lea buf(%rip), %rsi
    lea buf+2048(%rip), %rdi
    mov $97, %ecx
    rep movsb
    dec %ebx
    jnz 1b
    xor %ecx, %ecx
    rep stosb
    """
    process = run(tmp_path, build_asm(tmp_path, body, "buf: .zero 4096"))
    instructions, loads, stores = totals(process)
    assert instructions == 1 + 11 * 6 + 2 + 3
    assert (loads, stores) == (11 * 97, 11 * 97)
    assert process.rep_extra.sum() == 11 * 97  # 97 iterations and the final look at the count, less the first fetch
    mix = LensReader(process).iform_mix(range(len(process.keys)))
    assert (mix["string_m"], mix["string_s"]) == (11, 1)


def test_branch_outcomes(tmp_path: Path) -> None:
    """Taken every third time, negated and plain; and a jump to its own fall-through, which is taken or not as coded."""
    body = """
    mov $0, %ebx
    mov $900, %ecx
    1: inc %ebx
    cmp $3, %ebx
    jne 2f
    xor %ebx, %ebx
    2: cmp $0, %ebx
    je 3f
    nop
    3: test %ecx, %ecx
    jz 4f
    4: test %ecx, %ecx
    jnz 5f
    5: dec %ecx
    jnz 1b
    """
    process = run(tmp_path, build_asm(tmp_path, body))
    seen = [(int(b["executions"]), int(b["taken"]), int(b["transitions"]))
            for b in sorted(process.branches, key=lambda b: int(b["addr"])) if b["executions"]]  # fmt: skip
    assert seen == [(900, 600, 599), (900, 300, 599), (900, 0, 0), (900, 900, 0), (900, 899, 1)]
    assert process.branch_taken.sum() == 600 + 300 + 900 + 899
    # Seven outcomes of five branches do not show a period of three; the others are learnt.
    assert 300 <= process.branch_misses.sum() < 330


def test_indirect_calls_round_robin(tmp_path: Path) -> None:
    body = """
    mov $7007, %ecx
    xor %ebx, %ebx
    1: lea table(%rip), %rax
    call *(%rax,%rbx,8)
    inc %ebx
    cmp $7, %ebx
    jne 2f
    xor %ebx, %ebx
    2: dec %ecx
    jnz 1b
    jmp 9f
    """ + "".join(f"f{i}: ret\n" for i in range(7)) + "9:"  # fmt: skip
    table = "table: " + "".join(f".quad f{i}\n" for i in range(7))
    process = run(tmp_path, build_asm(tmp_path, body, table))
    (call,) = [x for x in process.indirects if x["kind"] == 1]
    assert (int(call["executions"]), int(call["misses"]), int(call["ntargets"])) == (7007, 7007, 7)
    assert sorted(call["counts"].tolist(), reverse=True)[:8] == [1001] * 7 + [0]
    returns = [x for x in process.indirects if x["kind"] == 2]
    assert len(returns) == 7
    assert sum(int(x["executions"]) for x in returns) == 7007
    assert sum(int(x["misses"]) for x in returns) == 7
    summary = LensReader(process).summary()
    assert (summary.indirect, summary.indirect_sites, summary.calls, summary.returns) == (7007, 1, 7007, 7007)
    assert summary.indirect_targets == 7
    assert process.call_depth[1] == 7007


def test_locked_add_is_one_load_and_one_store(tmp_path: Path) -> None:
    body = "mov $13, %ecx\n1: lock incl buf(%rip)\nxchg %eax, buf(%rip)\ndec %ecx\njnz 1b"
    process = run(tmp_path, build_asm(tmp_path, body, "buf: .zero 64"))
    assert totals(process) == (1 + 13 * 4 + 3, 26, 26)


def test_dependences_and_pointer_chasing(tmp_path: Path) -> None:
    body = "lea buf(%rip), %rsi\nmov %rsi, (%rsi)\nmov $101, %ecx\n" + "1: mov (%rsi), %rsi\nnop\ndec %ecx\njnz 1b"
    process = run(tmp_path, build_asm(tmp_path, body, "buf: .zero 64"))
    summary = LensReader(process).summary()
    assert summary.chase_share == pytest.approx(100 / 101)  # the first address is computed
    # the pointer and the counter: three or four instructions ago; the store's operand: just before
    assert summary.raw.tolist() == [1, 0, 101 * 2, 0, 0, 0, 0, 0]
    assert summary.loads == 101


def test_segments_follow_system_calls(tmp_path: Path) -> None:
    """getppid 5 times, with 10 instructions between two calls."""
    body = "mov $5, %ebx\n1: mov $110, %eax\nsyscall\n" + "nop\n" * 6 + "dec %ebx\njnz 1b"
    program = build_asm(tmp_path, body)
    process = run(tmp_path, program, "--events=3")
    by_prev = {key.prev_nr: i for i, key in enumerate(process.keys)}
    assert set(by_prev) == {PREV_START, 110}
    after = by_prev[110]
    assert process.visits[after] == 5
    assert process.transitions[(after, 110)] == 4
    assert process.transitions[(after, 60)] == 1
    assert process.instructions[after] == 5 * 8 + 4 * 2 + 3
    assert [(int(e["nr"]), int(e["instructions"])) for e in process.events] == [(110, 3), (110, 10), (110, 10)]
    assert process.dropped.events == 2


def test_threads_have_keys_of_their_own(tmp_path: Path) -> None:
    text = """
    #include <pthread.h>
    static void *work(void *p) { volatile long n = 0; for (long i = 0; i < *(long *)p; i++) n++; return 0; }
    int main(void) {
        pthread_t t[3]; long n[3] = {100003, 200003, 300007};
        for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, work, &n[i]);
        for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    }
    """
    process = run(tmp_path, build_c(tmp_path, text, "-pthread"), "--fair-sched=yes")
    assert sorted(process.threads) == [1, 2, 3, 4]
    # Which of them runs first, and so has the lowest number, is for the scheduler to say.
    stores = sorted(
        sum(int(process.store_hist[i].sum()) for i, k in enumerate(process.keys) if k.tid == tid) for tid in (2, 3, 4)
    )
    for found, expected in zip(stores, (100003, 200003, 300007), strict=True):
        assert expected < found < expected + 2000


def test_lines_that_threads_share(tmp_path: Path) -> None:
    """Two threads walk over 32 lines of both and 32 of their own, which another thread has set to zero."""
    text = """
    #include <pthread.h>
    #include <string.h>
    static char both[2048] __attribute__((aligned(64))), own[2][2048] __attribute__((aligned(64)));
    static pthread_barrier_t turn;
    static void *work(void *p) {
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < 2048; i += 64) { *(volatile char *)&both[i]; *(volatile char *)((char *)p + i) = 1; }
            pthread_barrier_wait(&turn);
        }
        return 0;
    }
    int main(void) {
        pthread_t t[2];
        memset(own, 0, sizeof own);
        pthread_barrier_init(&turn, 0, 2);
        for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, work, own[i]);
        for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
        return 0;
    }
    """
    rounds = 600
    process = run(tmp_path, build_c(tmp_path, text, "-pthread", f"-DROUNDS={rounds}"), "--fair-sched=yes")
    workers = [index for index, key in enumerate(process.keys) if process.threads[key.tid] != process.pid]
    deep = slice(4, None)
    loads, stores = (hist[workers].sum(0)[deep] for hist in (process.shared_load_hist, process.shared_store_hist))
    barrier = 4 * 2 * rounds  # accesses that it is made of, at most
    assert 2 * 31 * rounds < loads.sum() < 2 * 32 * rounds + barrier
    assert (loads <= process.load_hist[workers].sum(0)[deep]).all()
    assert 2 * 32 * 250 < stores.sum() < 2 * 32 * 260 + barrier  # from then on they are the thread's own
    assert not process.shared_load_hist[:, :4].any() and not process.shared_store_hist[:, :4].any()


def test_forked_children_write_their_own_file(tmp_path: Path) -> None:
    text = """
    #include <sys/wait.h>
    #include <unistd.h>
    static void spin(long n) { for (volatile long i = 0; i < n; i++) ; }
    int main(void) {
        spin(50021);
        if (fork() == 0) { spin(10007); _exit(0); }
        wait(0);
        return 0;
    }
    """
    parent, child = run_all(tmp_path, build_c(tmp_path, text))
    assert parent.pid != child.pid
    assert 10007 < child.store_hist.sum() < 12000
    assert parent.store_hist.sum() > 50021
    assert list(child.threads.values()) == [child.pid]
    assert (child.ppid, child.command) == (parent.pid, parent.command)
    assert child.command[0].endswith("/p")


def test_fatal_signal_still_writes(tmp_path: Path) -> None:
    program = build_asm(tmp_path, "mov $31, %ecx\n1: dec %ecx\njnz 1b\nmov $0, %rax\nmov (%rax), %rbx")
    subprocess.run(lens_command([str(program)], tmp_path / "out"), env=lens_env(), timeout=60, capture_output=True)
    (file,) = tmp_path.glob("out.*.lens")
    assert load_lens(file).instructions.sum() >= 1 + 31 * 2


def test_total_instructions_agree_with_callgrind(tmp_path: Path) -> None:
    text = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    static int cmp(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
    int main(void) {
        static int v[20000]; unsigned x = 7;
        for (int i = 0; i < 20000; i++) { x = x * 1664525u + 1013904223u; v[i] = (int)(x >> 8); }
        qsort(v, 20000, sizeof *v, cmp);
        char buf[64]; long total = 0;
        for (int i = 0; i < 2000; i++) { snprintf(buf, sizeof buf, "%d:%g", v[i], v[i] / 3.0); total += strlen(buf); }
        printf("%ld\\n", total);
    }
    """
    program = build_c(tmp_path, text, "-static")
    process = run(tmp_path, program)
    out = tmp_path / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)]
    subprocess.run(command, env=lens_env(), check=True, timeout=60, capture_output=True)
    (line,) = [line for line in out.read_text().splitlines() if line.startswith(("summary:", "totals:"))][:1]
    reference = int(line.split()[1])
    total = int(process.instructions.sum() + process.rep_extra.sum())
    assert abs(total - reference) / reference < 0.001
    assert os.path.getsize(out) > 0
