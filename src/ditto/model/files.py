"""Files of the profile: groups by kind, number and size; slots by the order of opening.  Names stay behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ditto.artifacts.observation import FileSeen
from ditto.artifacts.profile import FileGroup, Op, OpenAtStart, OpKind, Program, ReplyShape, RequestClass
from ditto.artifacts.program import FILE_SLOTS, FIRST_OPEN_SLOT, MAX_FILE_GROUPS
from ditto.model.distributions import constant, dist
from ditto.streams.events import Obj
from ditto.streams.programs import OpName, OpWork

_KERNEL_FILES = {
    b"/proc/self/stat": "proc_self_stat",
    b"/proc/self/status": "proc_self_status",
    b"/proc/self/smaps": "proc_self_smaps",
    b"/proc/meminfo": "proc_meminfo",
    b"/proc/loadavg": "proc_loadavg",
    b"/proc/stat": "proc_stat",
    b"/dev/urandom": "dev_urandom",
    b"/dev/null": "dev_null",
}
_O_APPEND = 0o2000
_O_ACCMODE = 3
_O_RDWR = 2
STRAY_FILE = 0.02
"""Share of a file's mean number of uses below which it is left out of a group."""
_KEEP_FLAGS = 0o2 | 0o1 | 0o2000 | 0o4000 | 0o40000 | 0o2000000 | 0o4010000
"""Access mode, append, nonblocking, direct, cloexec, sync: flags that matter to the kernel and are safe anywhere."""


def kernel_file(path: bytes) -> str | None:
    """The profile's name of a file that the kernel itself provides, whoever asks."""
    parts = path.split(b"/")
    if len(parts) >= 4 and parts[1] == b"proc" and parts[2].isdigit():
        path = b"/".join([b"", b"proc", b"self", *parts[3:]])
    return _KERNEL_FILES.get(path)


@dataclass
class FileCatalog:
    """Collects the files that programs use and numbers their groups and slots."""

    seen: dict[bytes, int]
    groups: list[FileGroup] = field(default_factory=list)
    opens: list[OpenAtStart] = field(default_factory=list)
    _by_paths: dict[tuple[frozenset[bytes], str], int] = field(default_factory=dict)
    _slots: dict[bytes, int] = field(default_factory=dict)
    objects: dict[bytes, Obj] = field(default_factory=dict)
    access: dict[bytes, int] = field(default_factory=dict)
    written: Counter[bytes] = field(default_factory=Counter)

    @classmethod
    def of(cls, files: list[FileSeen], objects: list[Obj]) -> FileCatalog:
        catalog = cls({f.path.encode("utf-8", "surrogateescape"): f.size for f in files})
        for obj in objects:
            if obj.kind == "file":
                catalog.objects.setdefault(obj.path, obj)
                access = catalog.access.setdefault(obj.path, obj.flags & _O_ACCMODE)
                # Opened for reading here (a log, when it is recovered) and for writing there: one slot serves both.
                if obj.flags & _O_ACCMODE != access:
                    catalog.access[obj.path] = _O_RDWR
        return catalog

    def group_of(self, name: OpName, op: OpWork) -> int:
        """The group of the files that an operation opens or asks about.

        The clone takes each as often as any other, so that a file of a few requests (the first one writes what a cache
        keeps) does not count beside those of thousands.
        """
        usual = STRAY_FILE * op.paths.total() / max(1, len(op.paths))
        paths = frozenset(path for path, count in op.paths.items() if count >= usual)
        return self._group(
            paths or frozenset([b""]), append=False, missing=not op.sizes, most=MAX_FILE_GROUPS - FILE_SLOTS
        )

    def _group(self, paths: frozenset[bytes], append: bool, missing: bool = False, most: int = MAX_FILE_GROUPS) -> int:
        """The number of a group; from ``most`` on, one of the same kind that there is takes the place of a new one."""
        kinds = {kernel_file(path) for path in paths}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None:
            kind = "missing" if missing else "regular"
        key = (paths, kind)
        if key not in self._by_paths and len(self.groups) >= most:
            alike = [at for at, group in enumerate(self.groups) if group.kind == kind and group.append == append]
            self._by_paths[key] = alike[-1] if alike else len(self.groups) - 1
        if key not in self._by_paths:
            sizes = Counter(max(0, self.seen.get(path, 0)) for path in paths)
            depth = round(sum(path.strip(b"/").count(b"/") for path in paths) / len(paths))
            self._by_paths[key] = len(self.groups)
            self.groups.append(
                FileGroup(
                    kind=kind,
                    count=max(1, len(paths)),
                    depth=min(32, depth),
                    append=append,
                    size=(dist(sizes) or constant(0)) if kind == "regular" and not append else None,
                )
            )
        return self._by_paths[key]

    def opens_for(self, programs: Iterable[Program]) -> list[OpenAtStart]:
        """Those files that are open all the time which the operations of some programs work on."""
        used = {op.b for program in programs for op in program if op.kind.value.startswith("file_")}
        return [opened for opened in self.opens if opened.slot in used]

    def size_of(self, slot: tuple[str, object] | None) -> int:
        """Bytes of a file that is open all the time; 0 for any other."""
        return self.seen.get(bytes(slot[1]), 0) if slot is not None and slot[0] == "p" else 0  # type: ignore[call-overload]

    def slot_of(self, slot: tuple[str, object] | None) -> int:
        """The number of a slot: below 8 for files of one request, from 8 for those open all the time."""
        if slot is None:
            return 0
        where, what = slot
        if where == "t":
            return min(int(what), FIRST_OPEN_SLOT - 1)  # type: ignore[call-overload,no-any-return]
        path = bytes(what)  # type: ignore[call-overload]
        if path not in self._slots:
            number = FIRST_OPEN_SLOT + len(self._slots)
            if number >= FILE_SLOTS:
                return FILE_SLOTS - 1
            self._slots[path] = number
            obj = self.objects.get(path)
            flags = obj.flags & ~_O_ACCMODE | self.access[path] if obj is not None else _O_RDWR
            append = bool(flags & _O_APPEND) or (flags & _O_ACCMODE) == 1
            group = self._group(frozenset([path]), append=append)
            self.opens.append(OpenAtStart(group=group, slot=number, flags=flags & _KEEP_FLAGS))
        return self._slots[path]


def of_a_file(cls: RequestClass, groups: list[FileGroup], opens: Iterable[OpenAtStart] = ()) -> RequestClass:
    """A class whose ``sendfile`` says how much it sends, where that is not the whole of the file.

    Files are opened by the request or, ``opens``, all the time.
    """
    opened = {one.slot: one.group for one in opens} | {op.b: op.a for op in cls.program if op.kind is OpKind.FILE_OPEN}
    program = []
    for op in cls.program:
        if op.kind is OpKind.SENDFILE and op.a in opened:
            whole, sent = groups[opened[op.a]].size, [reply.size for reply in _replies_with(cls, op) if reply.size]
            if whole is not None and any(abs(whole.mean - size.mean) > 1 for size in sent):
                op = op.model_copy(update={"size": sent[0]})
        program.append(op)
    return cls.model_copy(update={"program": program})


def _replies_with(cls: RequestClass, op: Op) -> list[ReplyShape]:
    """The kinds of reply that an operation is made for: the first, or those of its range."""
    if not op.draw or op.draw != cls.reply_draw:
        return [cls.replies[0]]
    start, end, at, own = op.start or 0.0, (op.start or 0.0) + op.probability, 0.0, []
    for shape in cls.replies:
        if start - 1e-9 <= at < end - 1e-9:
            own.append(shape)
        at += shape.probability
    return own or [cls.replies[0]]
