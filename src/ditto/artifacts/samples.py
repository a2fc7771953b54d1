"""Where a service's threads were in user mode, by samples of the CPU clock, and the code there.

Private to the owner of the app: the file holds the app's code bytes.  A NumPy archive of ``version``, ``period_ns``,
``samples`` (:data:`SAMPLE`), ``pages`` (:data:`PAGE`) and ``code``, 4096 bytes for each page.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto.errors import BadInputError, FormatVersionError

VERSION = 1
PAGE_BYTES = 4096
SAMPLE = np.dtype([("t_ns", "<u8"), ("ip", "<u8"), ("pid", "<u4"), ("tid", "<u4")])
PAGE = np.dtype([("address", "<u8"), ("pid", "<u4")])


@dataclass(frozen=True)
class Samples:
    """Samples of user mode.

    Attributes:
        period_ns: CPU time that one sample stands for.
        samples: [n] of :data:`SAMPLE`; times are of CLOCK_MONOTONIC, as a native recording's.
        pages: [p] of :data:`PAGE`.
        code: [p, 4096] their bytes.
    """

    period_ns: int
    samples: NDArray[Any]
    pages: NDArray[Any]
    code: NDArray[np.uint8]

    @cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        return {(int(page["pid"]), int(page["address"])): row for row, page in enumerate(self.pages)}

    def code_at(self, pid: int, address: int, length: int) -> bytes:
        """Up to ``length`` bytes of code, fewer where the next page is not known; none where nothing is."""
        out = b""
        while len(out) < length:
            row = self._rows.get((pid, (address + len(out)) & -PAGE_BYTES))
            if row is None:
                break
            begin = (address + len(out)) % PAGE_BYTES
            out += self.code[row, begin : begin + length - len(out)].tobytes()
        return out

    def save(self, path: Path) -> None:
        """Write it, for the owner's eyes only."""
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            np.savez_compressed(
                file, version=VERSION, period_ns=self.period_ns, samples=self.samples, pages=self.pages, code=self.code
            )


def load_samples(path: Path) -> Samples:
    """Read what :meth:`Samples.save` wrote.

    Raises:
        BadInputError: missing or damaged.
        FormatVersionError: written in another format version.
    """
    remedy = "make the observation again with 'ditto observe APP.toml -o OUT'"
    try:
        with np.load(path, allow_pickle=False) as archive:
            version = int(archive["version"])
            if version != VERSION:
                raise FormatVersionError(str(path), version, VERSION)
            made = Samples(int(archive["period_ns"]), archive["samples"], archive["pages"], archive["code"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: no samples are there ({error})", remedy) from error
    if made.samples.dtype != SAMPLE or made.pages.dtype != PAGE or made.code.shape != (len(made.pages), PAGE_BYTES):
        raise BadInputError(f"{path}: the samples are damaged", remedy)
    return made
