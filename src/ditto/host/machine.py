"""Reading the facts of this machine."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from ditto import __version__
from ditto.artifacts.machine import Cache, MachineFacts
from ditto.host.perf_event import EXCLUDE_HYPERVISOR, EXCLUDE_KERNEL, attributes, perf_event_open

_CPU0 = Path("/sys/devices/system/cpu/cpu0")
_HARDWARE, _INSTRUCTIONS = 0, 1


def read_facts() -> MachineFacts:
    """The facts of this machine now; never fails, leaves out what cannot be read."""
    cpu = _cpuinfo()
    flags = sorted(cpu.get("flags", cpu.get("Features", "")).split())
    return MachineFacts(
        architecture=platform.machine(),
        cpu_model=cpu.get("model name", ""),
        cpu_family=":".join(cpu.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping")),
        microcode=cpu.get("microcode", ""),
        flags_hash=hashlib.sha256(" ".join(flags).encode()).hexdigest()[:12] if flags else "",
        cpus=len(os.sched_getaffinity(0)),
        cpus_online=os.cpu_count() or 0,
        threads_per_core=_count_cpus(_read(_CPU0 / "topology/thread_siblings_list")),
        mhz=_number(cpu.get("cpu MHz", "")),
        caches=_caches(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        thp=_chosen(_read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))),
        kernel=platform.release(),
        distribution=_distribution(),
        governor=_read(_CPU0 / "cpufreq/scaling_governor"),
        hypervisor=_hypervisor(flags),
        mitigations=_mitigations(),
        hardware_counters=hardware_counter_error() is None,
        python=platform.python_version(),
        ditto=__version__,
    )


def read_vendor() -> str:
    """The processor's vendor; empty where it is not known."""
    return _cpuinfo().get("vendor_id", "")


def hardware_counter_error() -> str | None:
    """None where user instructions can be counted; else why not."""
    flags = EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR
    try:
        handle = perf_event_open(attributes(_HARDWARE, _INSTRUCTIONS, flags=flags), 0, -1)
    except OSError as error:
        return error.strerror
    os.close(handle)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _cpuinfo() -> dict[str, str]:
    first = _read(Path("/proc/cpuinfo")).split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _chosen(text: str) -> str:
    """The word in brackets of a kernel's choice such as ``always [madvise] never``."""
    return text.partition("[")[2].partition("]")[0]


def _count_cpus(text: str) -> int:
    count = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first.isdigit():
            count += int(last) - int(first) + 1 if dash else 1
    return count


def _caches() -> tuple[Cache, ...]:
    found = []
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    for folder in sorted((_CPU0 / "cache").glob("index*")):
        size = _read(folder / "size")
        found.append(
            Cache(
                level=int(_number(_read(folder / "level"))),
                kind=_read(folder / "type").lower(),
                size_bytes=int(_number(size.rstrip("KMG"))) * units.get(size[-1:], 1),
                line_bytes=int(_number(_read(folder / "coherency_line_size"))),
                ways=int(_number(_read(folder / "ways_of_associativity"))),
                shared_by_cpus=_count_cpus(_read(folder / "shared_cpu_list")),
            )
        )
    return tuple(found)


def _distribution() -> str:
    for line in _read(Path("/etc/os-release")).splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""


def _hypervisor(flags: list[str]) -> str:
    if "hypervisor" not in flags:
        return ""
    return (
        _read(Path("/sys/hypervisor/type"))
        or _read(Path("/sys/class/dmi/id/sys_vendor"))
        or _read(Path("/sys/class/dmi/id/product_name"))
        or "yes"
    )


def _mitigations() -> dict[str, str]:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    if not folder.is_dir():
        return {}
    states = {path.name: _read(path) for path in sorted(folder.iterdir())}
    return {name: state for name, state in states.items() if state and state != "Not affected"}
