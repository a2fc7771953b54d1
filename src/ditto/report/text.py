"""Words and numbers of the report: labels of metrics, and figures in a form fit for reading."""

from __future__ import annotations

import math

from ditto.artifacts.fidelity import Fidelity, Record, Verdict

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
    "bytes.sent_per_request": "Bytes written and sent per request",
    "bytes.received_per_request": "Bytes read and received per request",
    "syscalls.total": "All system calls per request",
    "syscalls.foreign_types": "Kinds of calls that only the clone makes",
    "instructions.user_per_request": "User instructions per request",
}

_GROUPS = {
    "throughput": "Throughput",
    "cpu": "Processor time",
    "instructions": "Instructions",
    "syscalls": "System calls",
    "bytes": "Bytes",
    "scheduling": "Scheduling",
    "memory": "Memory",
    "cache": "Cache misses",
    "branches": "Branches",
    "mix": "Instruction mix",
}
_ORDER = list(_GROUPS)

CURVES = {"loads": "Data loads", "stores": "Data stores", "code": "Code", "pages": "Code pages"}

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
NONE = "\N{EN DASH}"


def label_of(record: Record) -> str:
    """What a metric is called in the report; its own name where there is no better one."""
    known = _LABELS.get(record.metric)
    if known is not None:
        return known
    family, _, rest = record.metric.partition(".")
    if family == "syscalls":
        return f"{rest} per request"
    return record.metric


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
    text = f"{value:,.{decimals}f}"
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
        text = f"{text}{NARROW}%"
    else:
        text = ("+" if value > 0 else "") + figure(value, 3) if value else "0"
    if not signed:
        text = text.lstrip("+")
    return text.replace("-", MINUS).replace(",", NARROW)


def verdict_class(verdict: Verdict) -> str:
    """Class of the style sheet for a verdict."""
    return {
        Verdict.INSIDE_NOISE: "good",
        Verdict.INSIDE_BOUND: "good",
        Verdict.OUTSIDE: "bad",
        Verdict.NO_BOUND: "plain",
        Verdict.NOT_AVAILABLE: "missing",
    }[verdict]


def verdict_sentence(fidelity: Fidelity) -> str:
    """The first sentence of the report: how many figures are as close as asked."""
    counts = fidelity.summary
    if counts.judged == 0:
        return "No figure could be judged."
    close = counts.inside_noise + counts.inside_bound
    if counts.outside == 0:
        return f"All {counts.judged} figures that were judged are as close to the original as asked."
    return f"{close} of {counts.judged} figures that were judged are as close to the original as asked; " + (
        "1 is outside." if counts.outside == 1 else f"{counts.outside} are outside."
    )
