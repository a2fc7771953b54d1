"""Words and numbers of the report: labels of metrics, and figures in a form fit for reading."""

from __future__ import annotations

import math
import re

from markupsafe import Markup

from ditto.artifacts.fidelity import Fidelity, Record
from ditto.artifacts.verdict import Verdict

_LABELS = {
    "throughput.saturation": "Throughput at saturation",
    "cpu.ns_per_request": "CPU time per request",
    "cpu.user_ns_per_request": "CPU time per request, user",
    "cpu.system_ns_per_request": "CPU time per request, system",
    "cpu.cores_busy": "Cores kept busy",
    "switches.voluntary_per_request": "Voluntary switches per request",
    "switches.involuntary_per_request": "Involuntary switches per request",
    "faults.minor_per_request": "Minor page faults per request",
    "faults.major_per_request": "Major page faults per request",
    "memory.resident_bytes": "Resident memory",
    "disk.reads_per_request": "Reads of the disk per request",
    "disk.read_bytes_per_request": "Bytes read of the disk per request",
    "disk.writes_per_request": "Writes to the disk per request",
    "disk.write_bytes_per_request": "Bytes written to the disk per request",
    "bytes.sent_per_request": "Bytes written and sent per request",
    "bytes.received_per_request": "Bytes read and received per request",
    "syscalls.total": "System calls per request, waits apart",
    "syscalls.foreign_types": "Kinds of calls that only the clone makes",
    "instructions.user_per_request": "User instructions per request",
    "instructions.loads_per_request": "Data lines loaded per request",
    "instructions.stores_per_request": "Data lines stored per request",
    "instructions.code_touches_per_request": "Code lines touched per request",
    "branches.conditional_per_request": "Conditional branches per request",
    "branches.mispredicted_per_request": "Mispredicted branches per request",
    "branches.indirect_per_request": "Indirect jumps and calls per request",
    "mix.distance": "Instructions of another class",
}

_GROUPS = {
    "throughput": "Throughput",
    "latency": "Latency",
    "cpu": "Processor time",
    "tiers": "Tiers",
    "edges": "Calls between tiers",
    "instructions": "Instructions",
    "syscalls": "System calls per request",
    "bytes": "Bytes",
    "scheduling": "Scheduling",
    "memory": "Memory",
    "disk": "Disk",
    "cache": "Cache misses",
    "hardware": "Hardware counters",
    "branches": "Branches",
    "mix": "Instruction mix",
}
_ORDER = list(_GROUPS)

_HARDWARE = {
    "ipc": "Instructions per cycle",
    "instructions_per_request": "Instructions per request",
    "branch_misses": "Branch misses",
    "l1i_misses": "L1 instruction cache misses",
    "l1d_misses": "L1 data cache misses",
    "l2_misses": "L2 cache misses",
    "llc_misses": "Last-level cache misses",
    "itlb_misses": "Instruction TLB misses",
    "dtlb_misses": "Data TLB misses",
}

CURVES = {"loads": "Data loads", "stores": "Data stores", "code": "Code fetches", "pages": "Data pages"}

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
NO_BREAK = "\N{NO-BREAK SPACE}"
NONE = "\N{EN DASH}"


def label_of(record: Record) -> str:
    """What a metric is called in the report; its own name where there is no better one."""
    known = _LABELS.get(record.metric)
    if known is not None:
        return known
    family, _, rest = record.metric.partition(".")
    if family == "syscalls":
        return rest
    words = record.metric.split(".")
    if family == "tier" and len(words) == 4:
        return f"{words[1]}, {'CPU time per request' if words[2] == 'cpu' else 'resident memory'}"
    if family == "edge" and len(words) == 4:
        return f"{words[1]} to {words[2]}, calls per request"
    base, at, level = record.metric.rpartition("_at_")
    if at:
        load = "at saturation" if level == "saturation" else f"at {level} % load"
        return f"{_LABELS.get(base, base.removeprefix('latency.'))} {load}"
    counter, _, mode = rest.rpartition("_")
    if family == "hardware" and counter in _HARDWARE:
        return f"{_HARDWARE[counter]}, {mode} mode"
    ratio, _, size = rest.partition(".")
    if family in CURVES and ratio == "miss_ratio" and size.isdigit():
        return f"{CURVES[family]} that miss {size_text(int(size))}"
    return record.metric


def size_text(size: int) -> str:
    """A size in bytes with a binary unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def group_title(group: str) -> str:
    """Heading of a group of records."""
    return _GROUPS.get(group, group)


def grouped(fidelity: Fidelity) -> list[tuple[str, list[Record]]]:
    """Records by group: known groups in a fixed order, then others in the order of the file."""
    found: dict[str, list[Record]] = {}
    for record in fidelity.records:
        found.setdefault(record.group, []).append(record)
    order = sorted(found, key=lambda g: _ORDER.index(g) if g in _ORDER else len(_ORDER))
    return [(group_title(group), found[group]) for group in order]


def figure(value: float | None, digits: int = 4) -> str:
    """A figure with ``digits`` significant ones, in groups of three, never in powers of ten."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    decimals = max(0, min(9, digits - 1 - size))
    text = f"{value:,.{min(decimals, 7)}f}"
    if "." in text and abs(value) < 1:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", MINUS).replace(",", NARROW)


def error_text(record: Record, value: float | None, signed: bool = True) -> str:
    """An error, interval end or noise of a record: a percentage, or in the record's unit where it is absolute."""
    if value is None:
        return NONE
    if record.error_kind == "relative":
        percent = value * 100
        size = abs(percent)
        text = f"{percent:+.2f}" if size < 9.995 else f"{percent:+.1f}" if size < 99.95 else f"{percent:+,.0f}"
        text = "0.00" if size < 0.005 else text
        text = f"{text}{NARROW}%"
    else:
        text = ("+" if value > 0 else "") + figure(value, 2) if value else "0"
    if not signed:
        text = text.lstrip("+")
    return text.replace("-", MINUS).replace(",", NARROW)


def interval_text(record: Record) -> str:
    """Both ends of a record's interval, the unit once."""
    if record.interval is None:
        return NONE
    low, high = error_text(record, record.interval.low), error_text(record, record.interval.high)
    return f"{low.removesuffix(f'{NARROW}%')} to {high}"


def bound_text(record: Record) -> str:
    """What is asked of a record, in as few words as will do."""
    bound = record.bound
    if bound is None:
        return NONE
    parts = []
    if bound.relative is not None and record.error_kind == "relative":
        parts.append(f"{bound.relative * 100:g}{NARROW}%")
    if bound.absolute is not None:
        parts.append(f"{bound.absolute:g}")
    if bound.noise_multiple is not None:
        parts.append(f"{bound.noise_multiple:g}{NARROW}x{NARROW}noise")
    return " or ".join(parts)


def verdict_class(record: Record) -> str:
    """Class of the style sheet for a record's verdict: only what was judged is good or bad."""
    verdict = record.verdict
    if verdict is Verdict.OUTSIDE:
        return "bad"
    if verdict is Verdict.NOT_AVAILABLE:
        return "missing"
    return "good" if record.bound is not None and not record.too_noisy else "plain"


def verdict_text(record: Record) -> str:
    """The verdict in words."""
    noisy = record.too_noisy and record.verdict is Verdict.INSIDE_NOISE
    return f"{record.verdict.value}, noisy" if noisy else record.verdict.value


def breakable(name: str) -> Markup:
    """A dotted name that may be broken after its dots and underscores."""
    return Markup("").join(Markup("{}<wbr>").format(part) for part in re.findall(r"[^._]*[._]|[^._]+", name))


def verdict_sentence(fidelity: Fidelity) -> str:
    """The first sentence of the report: how many figures are as close as asked."""
    counts = fidelity.summary
    if counts.judged == 0:
        return "No figure could be judged."
    close = counts.judged - counts.outside - counts.too_noisy
    if close == counts.judged:
        return f"All {counts.judged} figures that were judged are as close to the original as asked."
    rest = []
    if counts.outside:
        rest.append(f"{counts.outside} {_is(counts.outside)} outside")
    if counts.too_noisy:
        rest.append(f"{counts.too_noisy} {_is(counts.too_noisy)} within a noise floor wider than the bound")
    return f"{close} of {counts.judged} judged figures are as close to the original as asked; {' and '.join(rest)}."


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def share_text(value: float | None) -> str:
    """A share of 1 in percent."""
    return NONE if value is None else f"{value * 100:.2f} %"


def points_text(original: float | None, clone: float | None) -> str:
    """The difference of two shares in percentage points."""
    if original is None or clone is None:
        return NONE
    points = (clone - original) * 100
    return f"{points:+.2f}".replace("-", MINUS) if abs(points) >= 0.005 else "0.00"
