"""Reading a JSON artifact: the version first, then the shape; whatever is wrong is one line that names the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ditto.errors import BadInputError, FormatVersionError

Model = TypeVar("Model", bound=BaseModel)


def read_model(
    path: Path,
    model: type[Model],
    version: int,
    remedy: str,
    *,
    key: str = "format_version",
    most_bytes: int | None = None,
) -> Model:
    """Read and check a file.

    Args:
        version: the only one that is taken.
        remedy: what to do about any other file.
        key: of the version.
        most_bytes: that such a file may have; no more is read.

    Raises:
        BadInputError: unreadable, too large, not JSON, or not of this shape; names the place.
        FormatVersionError: another format version.
    """
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise BadInputError(f"{path}: larger than such a file may be ({most_bytes >> 20} MiB)", remedy)
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", remedy) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path}: not JSON ({error})", remedy) from error
    if not isinstance(data, dict) or data.get(key) != version:
        raise FormatVersionError(str(path), data.get(key) if isinstance(data, dict) else None, version)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:80] for part in first["loc"]) or "the file"
        raise BadInputError(f"{path}: {place}: {first['msg']}", remedy) from error
