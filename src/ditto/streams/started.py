"""Which programs a service ran on its way up and had no more of when it was loaded."""

from __future__ import annotations

from collections import defaultdict

from ditto.artifacts.records import RECORD, Kind, Mode, Recording

_PAYLOAD_BYTES = 64


def gone_before_load(recording: Recording) -> list[str]:
    """Files of programs that only such processes executed as had ended before the load, with no descendant left.

    A compiler that a server calls when it starts is one; a shell that a server starts in and becomes is not.  A name
    that was recorded in part ends with ``*``.
    """
    records = recording.records
    loaded = records["t_ns"][(records["kind"] == Kind.MARK) & (records["nr"] == Mode.ALL)]
    if not len(loaded):
        return []
    births, exits, execs = (records[records["kind"] == kind] for kind in (Kind.BIRTH, Kind.EXIT, Kind.EXEC))
    parents = {
        int(pid): int(args[1]) for pid, args in zip(births["pid"], births["args"], strict=True) if pid != args[1]
    }
    early = exits["t_ns"] < loaded[0]
    ended = {int(pid) for pid in exits["pid"][early & (exits["pid"] == exits["tid"])]}
    programs: dict[str, set[int]] = defaultdict(set)
    for record in execs:
        programs[_file_of(record.tobytes(), int(record["payload_len"]))].add(int(record["pid"]))
    lasting = ({int(pid) for pid in execs["pid"]} | parents.keys()) - ended
    for pid in list(lasting):
        while pid in parents:
            pid = parents[pid]
            lasting.add(pid)
    return sorted(name for name, pids in programs.items() if name and not pids & lasting)


def _file_of(record: bytes, length: int) -> str:
    at = RECORD.fields["payload"][1]  # type: ignore[index]
    name = record[at : at + length].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return f"{name}*" if length >= _PAYLOAD_BYTES else name
