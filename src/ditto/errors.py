"""The errors Ditto raises on purpose.

Every error carries what a user needs to go on: what is wrong (with the thing and the place named) and the
remedy.  Library code raises these and never prints or exits; the command line turns each into one line on
standard error and its exit code.
"""

from __future__ import annotations


class DittoError(Exception):
    """Base of all expected failures.

    Attributes:
        message: one line naming the thing and the place.
        remedy: one line saying what to do about it; may be empty.
        exit_code: what the process exits with when the error reaches the command line.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Come whole out of another process, whatever arguments the kind of error is made of."""
        return _again, (type(self), self.message, self.remedy)


def _again(kind: type[DittoError], message: str, remedy: str) -> DittoError:
    error = kind.__new__(kind)
    DittoError.__init__(error, message, remedy)
    return error


class BadInputError(DittoError):
    """A file or argument from the user cannot be used as it is (exit code 2)."""

    exit_code = 2


class FormatVersionError(BadInputError):
    """An artifact was written in a format version this program does not read (exit code 2)."""

    def __init__(self, path: str, found: object, expected: int) -> None:
        super().__init__(
            f"{path}: format version {found!r} found, version {expected} expected",
            "make the file again with this version of ditto, or use the ditto that wrote it",
        )


class MissingCapabilityError(DittoError):
    """This machine lacks something the work needs: a tool, a permission, a kernel feature (exit code 3)."""

    exit_code = 3


class CheckFailedError(DittoError):
    """A comparison ran to its end and the result is outside the bound asked for (exit code 4)."""

    exit_code = 4


class AppError(DittoError):
    """The app, or a command of its app.toml (setup, prepare, load), failed (exit code 5)."""

    exit_code = 5


class RecordingError(DittoError):
    """A recording could not be completed, or lost too much to be used (exit code 6)."""

    exit_code = 6


class UnsupportedShapeError(DittoError):
    """The observation shows a server shape that this version cannot model (exit code 7)."""

    exit_code = 7
