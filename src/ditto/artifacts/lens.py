"""What the lens tool wrote of one process, and what is worked out from it per segment key.

The file's layout is described in ``native/lens/dump.c``; every word is defined in ``native/lens/README.md``.
Private to the owner of the app: the file holds the app's code bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto.errors import BadInputError, FormatVersionError

MAGIC = b"DITTOLNS"
VERSION = 3
BUCKETS = 24
"""Stack-distance buckets: 0 the same line again; k in 1..21: 2**(k-1) <= d < 2**k; 22: 2**21 and more; 23: first."""
PREV_START = 0xFFFF
"""``prev_nr`` of a segment that followed no system call: a thread's birth, or counting began in mid-segment."""
NONE = 0xFFFFFFFF
"""No such index."""
TARGETS = 512
"""Addresses of indirect jumps that a predictor of targets tells apart, as callgrind's does."""

U64 = NDArray[np.uint64]
Table = NDArray[Any]

_HISTOGRAM = ("<u8", (BUCKETS,))
KEY = np.dtype(
    [("tid", "<u4"), ("class_id", "<u4"), ("prev_nr", "<u4"), ("pad", "<u4"), ("visits", "<u8"), ("rep_extra", "<u8"),
     ("taken", "<u8"), ("misses", "<u8"), ("indirect_misses", "<u8"), ("clock_calls", "<u8"), ("load", *_HISTOGRAM),
     ("store", *_HISTOGRAM), ("code", *_HISTOGRAM), ("page", *_HISTOGRAM),
     ("shared_load", *_HISTOGRAM), ("shared_store", *_HISTOGRAM)]
)  # fmt: skip
BLOCK = np.dtype(
    [("addr", "<u8"), ("code_offset", "<u8"), ("length", "<u4"), ("instructions", "<u4"), ("first_access", "<u4"),
     ("accesses", "<u4"), ("kind", "<u4"), ("call", "<u4"), ("partial", "<u4"), ("rep", "<u4"), ("branch", "<u4"),
     ("indirect", "<u4"), ("pred", "<u4"), ("pad", "<u4")]
)  # fmt: skip
EXEC = np.dtype([("block", "<u4"), ("key", "<u4"), ("count", "<u8"), ("rep_extra", "<u8")])
TRANSITION = np.dtype([("key", "<u4"), ("next_nr", "<u4"), ("count", "<u8")])
SITE = np.dtype(
    [("addr", "<u8"), ("size", "<u4"), ("store", "<u4"), ("executions", "<u8"), ("same_stride", "<u8"),
     ("zero_stride", "<u8"), ("stride", "<i8")]
)  # fmt: skip
BRANCH = np.dtype(
    [("addr", "<u8"), ("target", "<u8"), ("executions", "<u8"), ("taken", "<u8"), ("transitions", "<u8"),
     ("misses", "<u8")]
)  # fmt: skip
INDIRECT = np.dtype(
    [("addr", "<u8"), ("kind", "<u4"), ("ntargets", "<u4"), ("executions", "<u8"), ("misses", "<u8"),
     ("other", "<u8"), ("targets", "<u8", (16,)), ("counts", "<u8", (16,))]
)  # fmt: skip
EVENT = np.dtype(
    [("tid", "<u4"), ("key", "<u4"), ("nr", "<u4"), ("passed", "<u4"), ("ret", "<i8"), ("args", "<u8", (3,)),
     ("instructions", "<u8")]
)  # fmt: skip
_CLASS = np.dtype([("length", "<u4"), ("name", "V76")])
_THREAD = np.dtype([("tid", "<u4"), ("os_tid", "<u4")])
_CACHES = np.dtype([("code", "<u8"), ("data", "<u8")])
_LAYOUT: dict[str, np.dtype[Any]] = {
    "meta": np.dtype("<u8"), "command": np.dtype("u1"), "threads": _THREAD, "classes": _CLASS,
    "keys": KEY, "trans": TRANSITION, "blocks": BLOCK, "code": np.dtype("u1"), "execs": EXEC,
    "acc": np.dtype("<u4"), "sites": SITE, "branches": BRANCH, "indirect": INDIRECT,
    "events": EVENT, "caches": _CACHES, "depth": np.dtype("<u8"),
}  # fmt: skip


@dataclass(frozen=True)
class SegmentKey:
    """Thread (serial number in the process, from 1), request class (index into ``classes``), the call before."""

    tid: int
    class_id: int
    prev_nr: int


@dataclass(frozen=True)
class Dropped:
    """What was not recorded.

    Attributes:
        accesses: accesses of blocks with too many of them (static count; 512 fit).
        events: system call events beyond the limit asked for.
        classes: receives whose request class no longer fitted the table of 255.
    """

    accesses: int
    events: int
    classes: int


@dataclass(frozen=True)
class LensProcess:
    """One process as the lens saw it; ``k`` keys, ``b`` blocks.

    Attributes:
        pid: its process id.
        ppid: its parent's, when it wrote the file.
        command: the program and its arguments.
        threads: kernel thread id by serial number.
        classes: names of the request classes; index 0 is ``none``, 255 (if there) ``other``.
        keys: the segment keys; all arrays over keys have this order.
        visits: [k] segments begun.
        instructions: [k] instructions executed, a rep instruction being one.
        rep_extra: [k] fetches of rep instructions beyond the first.
        branch_taken, branch_misses, indirect_misses: [k].
        code_set_misses, data_set_misses: [k] misses of caches of 64 sets of 8 and of 12 lines.
        clock_calls: [k] calls the vDSO answers outside Valgrind.
        load_hist, store_hist, code_hist, page_hist: [k, 24] stack-distance histograms.
        shared_load_hist, shared_store_hist: [k, 24] those of lines that other threads work on, from bucket 4 on.
        transitions: (key, next call) -> how often; only those seen.
        blocks: [b] :data:`BLOCK`; code bytes by :meth:`block_bytes`, memory sites by :meth:`block_sites`.
        execs: :data:`EXEC`, executions by block and key.
        branches, indirects, sites: :data:`BRANCH`, :data:`INDIRECT` (kind 0 jump, 1 call, 2 return), :data:`SITE`.
        events: :data:`EVENT`, in order.
        call_depth: [64] calls by the depth they lead to.
        stopped: written on command rather than at the process' end.
    """

    pid: int
    ppid: int
    command: tuple[str, ...]
    threads: dict[int, int]
    classes: list[bytes]
    keys: list[SegmentKey]
    visits: U64
    instructions: U64
    rep_extra: U64
    branch_taken: U64
    branch_misses: U64
    indirect_misses: U64
    code_set_misses: U64
    data_set_misses: U64
    clock_calls: U64
    load_hist: U64
    store_hist: U64
    code_hist: U64
    page_hist: U64
    shared_load_hist: U64
    shared_store_hist: U64
    transitions: dict[tuple[int, int], int]
    blocks: Table
    execs: Table
    branches: Table
    indirects: Table
    sites: Table
    events: Table
    call_depth: U64
    dropped: Dropped
    stopped: bool
    code: NDArray[np.uint8] = field(repr=False)
    access_sites: NDArray[np.uint32] = field(repr=False)

    def block_bytes(self, block: int) -> bytes:
        """The code of a block."""
        offset = int(self.blocks["code_offset"][block])
        return self.code[offset : offset + int(self.blocks["length"][block])].tobytes()


@dataclass(frozen=True)
class KeySummary:
    """What one segment key, or several together, executed: totals over all visits.

    Attributes:
        keys: indices of the keys put together.
        visits: segments begun.
        instructions: executed.
        mix: iform class (see ``ditto.artifacts.iforms``) -> instructions.
        loads, stores: data lines touched.
        load_hist, store_hist, code_hist, page_hist, shared_load_hist, shared_store_hist: [24] touches.
        stride_share: share of data accesses whose static access kept its non-zero stride.
        branches, branch_taken, branch_misses: conditional branches.
        branch_bins: [10, 10] branch executions by (taken rate, transition rate) of their static branch.
        branch_sites: static conditional branches that ran.
        indirect, indirect_sites, indirect_targets: indirect jumps and calls, their sites, distinct targets of a site
            (mean by execution).
        indirect_misses: of jumps, calls and returns, last-target predictor.
        jump_misses: of jumps and calls alone, as often a site's execution as in the whole run.
        calls, returns: executed; calls both direct and indirect.
        raw, war, waw: [8] register dependences by distance in instructions: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more
            (also: none within 64).  Across blocks along each block's usual predecessor; flags and rsp left out.
        chase_share: share of loads whose address comes from an earlier load.
        code_lines: distinct code lines executed.
        code_set_misses, data_set_misses: of caches with sets.
        jump_shares: of jumps and calls, how many predictors of targets miss that tell them by `TARGETS` addresses, for
            another that shares the place went before.
    """

    keys: tuple[int, ...]
    visits: int
    instructions: int
    mix: dict[str, int]
    loads: int
    stores: int
    load_hist: U64
    store_hist: U64
    code_hist: U64
    page_hist: U64
    shared_load_hist: U64
    shared_store_hist: U64
    stride_share: float
    branches: int
    branch_taken: int
    branch_misses: int
    branch_bins: NDArray[np.float64]
    branch_sites: int
    indirect: int
    indirect_sites: int
    indirect_targets: float
    indirect_misses: int
    jump_misses: float
    calls: int
    returns: int
    raw: NDArray[np.float64]
    war: NDArray[np.float64]
    waw: NDArray[np.float64]
    chase_share: float
    code_lines: int
    code_set_misses: int
    data_set_misses: int
    jump_shares: float = 0.0


def _sections(path: Path, data: bytes) -> dict[str, Table]:
    if len(data) < 16 or data[:8] != MAGIC:
        raise BadInputError(f"{path} is not a lens file", "pass a .lens file written by the lens tool")
    version, count = struct.unpack_from("<II", data, 8)
    if version != VERSION:
        raise FormatVersionError(str(path), version, VERSION)
    sections: dict[str, Table] = {}
    try:
        for i in range(count):
            raw, offset, items, size = struct.unpack_from("<8sQQI", data, 16 + 32 * i)
            name = raw.rstrip(b"\0").decode("ascii")
            layout = _LAYOUT.get(name)
            if layout is None:
                continue
            if layout.itemsize != size:
                raise ValueError(f"section {name}: items of {size} bytes")
            sections[name] = np.frombuffer(data, layout, items, offset)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: damaged lens file ({error})", "make the recording again") from error
    missing = sorted(set(_LAYOUT) - set(sections))
    if missing:
        raise BadInputError(f"{path}: damaged lens file (no section {missing[0]})", "make the recording again")
    return sections


def load_lens(path: Path) -> LensProcess:
    """Read one ``.lens`` file.

    Raises:
        BadInputError: not a lens file, or damaged.
        FormatVersionError: written in another format version.
    """
    try:
        s = _sections(path, path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    keys, blocks, execs, meta = s["keys"], s["blocks"], s["execs"], s["meta"]
    if execs.size and (execs["block"].max() >= blocks.size or execs["key"].max() >= keys.size):
        raise BadInputError(f"{path}: damaged lens file (index out of range)", "make the recording again")
    instructions = np.zeros(keys.size, np.uint64)
    np.add.at(instructions, execs["key"], execs["count"] * blocks["instructions"][execs["block"]])
    return LensProcess(
        pid=int(meta[0]),
        ppid=int(meta[7]),
        command=tuple(s["command"].tobytes().decode("utf-8", "replace").split("\0")[:-1]),
        threads={int(t["tid"]): int(t["os_tid"]) for t in s["threads"]},
        classes=[bytes(c["name"])[: int(c["length"])] for c in s["classes"]],
        keys=[SegmentKey(int(k["tid"]), int(k["class_id"]), int(k["prev_nr"])) for k in keys],
        visits=keys["visits"],
        instructions=instructions,
        rep_extra=keys["rep_extra"],
        branch_taken=keys["taken"],
        branch_misses=keys["misses"],
        indirect_misses=keys["indirect_misses"],
        code_set_misses=s["caches"]["code"],
        data_set_misses=s["caches"]["data"],
        clock_calls=keys["clock_calls"],
        load_hist=keys["load"],
        store_hist=keys["store"],
        code_hist=keys["code"],
        page_hist=keys["page"],
        shared_load_hist=keys["shared_load"],
        shared_store_hist=keys["shared_store"],
        transitions={(int(t["key"]), int(t["next_nr"])): int(t["count"]) for t in s["trans"]},
        blocks=blocks,
        execs=execs,
        branches=s["branches"],
        indirects=s["indirect"],
        sites=s["sites"],
        events=s["events"],
        call_depth=s["depth"],
        dropped=Dropped(accesses=int(meta[1]), events=int(meta[2]), classes=int(meta[3])),
        stopped=bool(meta[5]),
        code=s["code"],
        access_sites=s["acc"],
    )
