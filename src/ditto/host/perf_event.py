"""The system call ``perf_event_open``."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

ATTRIBUTE_BYTES = 112
INHERIT, EXCLUDE_USER, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR, EXCLUDE_IDLE = 1 << 1, 1 << 4, 1 << 5, 1 << 6, 1 << 7
_CALL = {"x86_64": 298, "aarch64": 241}
_CLOSE_ON_EXEC = 1 << 3


def attributes(kind: int, config: int, *, period: int = 0, sample: int = 0, read: int = 0, flags: int = 0) -> bytearray:
    """A ``perf_event_attr``: type, config, sample_period, sample_type, read_format and the bits that follow."""
    found = bytearray(ATTRIBUTE_BYTES)
    struct.pack_into("<IIQQQQQ", found, 0, kind, ATTRIBUTE_BYTES, config, period, sample, read, flags)
    return found


def perf_event_open(attribute: bytes | bytearray, task: int, cpu: int) -> int:
    """A descriptor of the event, on a task (-1: all) and a CPU (-1: any); closed on exec.

    Raises:
        OSError: the kernel does not permit it, or this machine has no such event.
    """
    number = _CALL.get(platform.machine())
    if number is None:
        raise OSError(0, f"not known how to open counters on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    handle: int = libc.syscall(number, bytes(attribute), task, cpu, -1, ctypes.c_ulong(_CLOSE_ON_EXEC))
    if handle < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return handle
