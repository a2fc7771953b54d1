"""The facts of a machine that figures depend on, saved with every run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cache(_Frozen):
    """One cache as the first CPU sees it."""

    level: int
    kind: str
    size_bytes: int
    line_bytes: int
    ways: int
    shared_by_cpus: int


class MachineFacts(_Frozen):
    """What this machine is.  Text is empty, and numbers are 0, where the machine does not tell.

    Attributes:
        flags_hash: first 12 hexadecimal digits of the SHA-256 of the sorted CPU feature names.
        cpus: that this process may run on.
        cpus_online: of the whole machine.
        governor: of the first CPU's frequency, where there is one.
        hypervisor: name or "yes"; empty on bare metal.
        mitigations: vulnerability to its state, of those that the kernel mitigates.
        hardware_counters: whether instructions can be counted (a PMU that this user may use).
        page_bytes: of the base page.
        thp: transparent huge pages setting.
    """

    format_version: Literal[1] = 1
    architecture: str = ""
    cpu_model: str = ""
    cpu_family: str = ""
    microcode: str = ""
    flags_hash: str = ""
    cpus: int = 0
    cpus_online: int = 0
    threads_per_core: int = 0
    mhz: float = 0.0
    caches: tuple[Cache, ...] = ()
    memory_bytes: int = 0
    page_bytes: int = 0
    thp: str = ""
    kernel: str = ""
    distribution: str = ""
    governor: str = ""
    hypervisor: str = ""
    mitigations: dict[str, str] = {}
    hardware_counters: bool = False
    python: str = ""
    ditto: str = ""

    def differences(self, other: MachineFacts) -> list[str]:
        """Names of the facts that differ and that figures depend on (versions of Python and the clock rate do not)."""
        ignored = {"format_version", "mhz", "python"}
        return [
            name
            for name in type(self).model_fields
            if name not in ignored and getattr(self, name) != getattr(other, name)
        ]

    def rows(self) -> list[tuple[str, str]]:
        """The facts as pairs of name and text, for a table; unknown ones left out."""
        rows = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name == "caches":
                sizes = [f"L{c.level} {c.kind} {c.size_bytes // 1024} KiB ({c.ways}-way)" for c in self.caches]
                rows.append((name, ", ".join(sizes)))
            elif name == "mitigations":
                rows.append((name, "; ".join(f"{key}: {text}" for key, text in sorted(self.mitigations.items()))))
            elif name != "format_version":
                rows.append((name, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)))
        return [(name, text) for name, text in rows if text not in ("", "0", "0.0")]
