"""What can be observed on this machine: found out by trying, not by assuming."""

from __future__ import annotations

import errno
import os
import platform
import resource
import subprocess
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ditto import paths
from ditto.host import commands
from ditto.host.machine import hardware_counter_error

_BPF_PACKAGES = "clang llvm libbpf-dev bpftool libelf-dev zlib1g-dev"
_CLIENTS = {
    "redis-benchmark": "redis-tools",
    "memcaslap": "libmemcached-tools",
    "wrk": "wrk",
}


class Check(BaseModel):
    """One thing looked at.

    Attributes:
        needed: whether ``ditto clone`` cannot do without it.
        detail: what was found, or why it is missing.
        remedy: the one command that adds it; a sentence where no command can.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    needed: bool
    detail: str
    remedy: str = ""


class Examination(BaseModel):
    """All checks, in the order to be read."""

    model_config = ConfigDict(frozen=True)

    sufficient: bool
    checks: tuple[Check, ...]

    def text(self) -> str:
        """For people: one line a check, with its remedy below where something is missing."""
        lines = []
        for check in self.checks:
            state = "ok" if check.ok else "MISSING" if check.needed else "absent"
            lines.append(f"{state:8} {check.name:22} {check.detail}")
            if not check.ok and check.remedy:
                lines.append(f"{'':8} {'':22} -> {check.remedy}")
        if self.sufficient:
            lines.append("everything that `ditto clone` needs is here")
        else:
            lines.append("`ditto clone` cannot work here before what is MISSING is added")
        return "\n".join(lines)


def examine() -> Examination:
    """Try everything.  Takes about two seconds; starts only short-lived processes and leaves nothing."""
    bpf, ptrace = _ebpf(), _ptrace()
    if ptrace.ok:
        # Either recorder will do, so neither is needed while the other works.
        bpf = bpf.model_copy(update={"needed": False})
    if bpf.ok:
        ptrace = ptrace.model_copy(update={"needed": False})
    checks: tuple[Check, ...] = (
        _architecture(),
        bpf,
        ptrace,
        _btf(),
        _tracefs(),
        _ptrace_scope(),
        _memlock(),
        _valgrind(),
        _lens(),
        _tool("compiler", ("cc", "gcc", "clang"), "gcc"),
        _tool("make", ("make",), "make"),
        _static_libc(),
        _counters(),
        _cgroup(),
        _stressor(),
        *(_client(name, package) for name, package in _CLIENTS.items()),
    )
    checks = tuple(check.model_copy(update={"remedy": ""}) if check.ok else check for check in checks)
    return Examination(sufficient=all(check.ok or not check.needed for check in checks), checks=checks)


def _run(words: list[str], env: dict[str, str] | None = None, folder: str | None = None) -> tuple[int, str]:
    """Exit code and the last line of what was said; -1 where it cannot be run or does not end."""
    environment = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, env=environment, cwd=folder, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    text = (done.stderr or done.stdout).decode(errors="replace").strip()
    return done.returncode, text.splitlines()[-1] if text else f"exit code {done.returncode}"


def _architecture() -> Check:
    machine = platform.machine()
    return Check(
        name="architecture",
        ok=machine == "x86_64",
        needed=True,
        detail=f"{machine}, Linux {platform.release()}",
        remedy="use a machine with an x86-64 processor",
    )


def _make_native(part: str) -> str:
    return f"make -C {paths.native_root() / part}"


def _ebpf() -> Check:
    binary = paths.collector_binary()
    if not binary.is_file():
        return Check(
            name="recording with eBPF",
            ok=False,
            needed=True,
            detail=f"{binary} is not built",
            remedy=f"apt-get install {_BPF_PACKAGES} && {_make_native('collector')}",
        )
    with tempfile.TemporaryDirectory(prefix="ditto-doctor-") as folder:
        out = str(Path(folder) / "try.rec")
        code, said = _run([str(binary), "--pid", str(os.getpid()), "--mode", "off", "-o", out])
    return Check(
        name="recording with eBPF",
        ok=code == 0,
        needed=True,
        detail="programs load and attach" if code == 0 else said,
        remedy="sudo ditto doctor" if os.geteuid() else "start the container with --privileged, or record with ptrace",
    )


def _ptrace() -> Check:
    binary = paths.ptrace_binary()
    if not binary.is_file():
        remedy = f"apt-get install gcc make libc6-dev && {_make_native('collector')}"
        return Check(
            name="recording with ptrace", ok=False, needed=True, detail=f"{binary} is not built", remedy=remedy
        )
    with tempfile.TemporaryDirectory(prefix="ditto-doctor-") as folder:
        target = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
        try:
            out = str(Path(folder) / "try.rec")
            code, said = _run([str(binary), "--pid", str(target.pid), "--mode", "off", "-o", out])
        finally:
            target.kill()
            target.wait()
    return Check(
        name="recording with ptrace",
        ok=code == 0,
        needed=True,
        detail="a process can be followed (slower than eBPF)" if code == 0 else said,
        remedy="sysctl kernel.yama.ptrace_scope=0",
    )


def _btf() -> Check:
    ok = Path("/sys/kernel/btf/vmlinux").is_file()
    return Check(
        name="kernel type data (BTF)",
        ok=ok,
        needed=False,
        detail="/sys/kernel/btf/vmlinux" if ok else "the kernel was built without CONFIG_DEBUG_INFO_BTF",
        remedy="boot a kernel with BTF, such as Debian's linux-image-amd64",
    )


def _tracefs() -> Check:
    found = [path for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing") if (Path(path) / "events").is_dir()]
    return Check(
        name="tracefs",
        ok=bool(found),
        needed=False,
        detail=f"mounted at {found[0]}" if found else "not mounted, or not readable by this user",
        remedy="mount -t tracefs nodev /sys/kernel/tracing",
    )


def _ptrace_scope() -> Check:
    path = Path("/proc/sys/kernel/yama/ptrace_scope")
    scope = int(path.read_text()) if path.exists() else 0
    allowed = scope == 0 or (scope < 3 and os.geteuid() == 0)
    return Check(
        name="ptrace scope",
        ok=allowed,
        needed=False,
        detail=f"kernel.yama.ptrace_scope is {scope}" if path.exists() else "not restricted",
        remedy="sysctl kernel.yama.ptrace_scope=0",
    )


def _memlock() -> Check:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    major, minor = (int(part) for part in platform.release().split("-")[0].split(".")[:2])
    counted = (major, minor) < (5, 11)
    unlimited = limit == resource.RLIM_INFINITY
    size = "unlimited" if unlimited else f"{limit // 1024} KiB"
    return Check(
        name="locked memory",
        ok=unlimited or not counted or limit >= 64 << 20,
        needed=False,
        detail=f"{size}" + ("" if counted else ", and this kernel does not count it for eBPF"),
        remedy="ulimit -l unlimited",
    )


def _valgrind() -> Check:
    found = commands.find_program("valgrind")
    detail = _run([found, "--version"])[1] if found else "not installed"
    return Check(name="valgrind", ok=found is not None, needed=True, detail=detail, remedy="apt-get install valgrind")


def _lens() -> Check:
    folder = paths.lens_directory()
    tool = folder / "lens-amd64-linux"
    remedy = f"apt-get install valgrind gcc make && {_make_native('lens')}"
    valgrind = commands.find_program("valgrind")
    if not tool.is_file() or valgrind is None:
        return Check(name="lens", ok=False, needed=True, detail=f"{tool} is not built", remedy=remedy)
    with tempfile.TemporaryDirectory(prefix="ditto-doctor-") as temporary:  # it writes where it is started
        code, said = _run([valgrind, "--tool=lens", "/bin/true"], {"VALGRIND_LIB": str(folder)}, temporary)
    return Check(
        name="lens",
        ok=code == 0,
        needed=True,
        detail="runs a program" if code == 0 else said,
        remedy=remedy,
    )


def _tool(name: str, programs: tuple[str, ...], package: str) -> Check:
    found = next((path for program in programs if (path := commands.find_program(program))), None)
    return Check(
        name=name,
        ok=found is not None,
        needed=True,
        detail=found or "not installed",
        remedy=f"apt-get install {package}",
    )


def _static_libc() -> Check:
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := commands.find_program(name))), None)
    if compiler is None:
        return Check(
            name="static libc", ok=False, needed=True, detail="no compiler to try it", remedy="apt-get install gcc"
        )
    with tempfile.TemporaryDirectory(prefix="ditto-doctor-") as folder:
        source = Path(folder) / "try.c"
        source.write_text("#include <pthread.h>\n#include <math.h>\nint main(void) { return 0; }\n")
        code, said = _run([compiler, "-static", "-pthread", "-o", f"{folder}/try", str(source), "-lm"])
    return Check(
        name="static libc",
        ok=code == 0,
        needed=True,
        detail="a static program links" if code == 0 else said,
        remedy="apt-get install libc6-dev",
    )


def _counters() -> Check:
    problem = hardware_counter_error()
    remedy = "none in this virtual machine: ask its host for a virtual PMU; figures from lens stand in"
    if problem in (os.strerror(errno.EACCES), os.strerror(errno.EPERM)):
        remedy = "sysctl kernel.perf_event_paranoid=1"
    return Check(
        name="hardware counters",
        ok=problem is None,
        needed=False,
        detail="instructions can be counted" if problem is None else problem,
        remedy=remedy,
    )


def _cgroup() -> Check:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    found = unified or Path("/sys/fs/cgroup/memory").exists()
    version = "version 2" if unified else "version 1"
    ok = found and os.access("/sys/fs/cgroup", os.W_OK)
    return Check(
        name="control groups",
        ok=ok,
        needed=False,
        detail=version if ok else f"{version}, not writable by this user" if found else "not mounted",
        remedy="sudo ditto doctor" if found else "mount -t cgroup2 none /sys/fs/cgroup",
    )


def _stressor() -> Check:
    found = commands.find_program("stress-ng")
    return Check(
        name="stress-ng",
        ok=found is not None,
        needed=False,
        detail=found or "not installed (only `ditto study interference` needs it)",
        remedy="apt-get install stress-ng",
    )


def _client(name: str, package: str) -> Check:
    found = commands.find_program(name)
    return Check(
        name=f"client {name}",
        ok=found is not None,
        needed=False,
        detail=found or "not installed (only the example that uses it needs it)",
        remedy=f"apt-get install {package}",
    )
