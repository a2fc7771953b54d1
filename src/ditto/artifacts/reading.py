"""Reading a JSON artifact: the version first, then the shape; whatever is wrong is one line that names the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ditto.errors import BadInputError, FormatVersionError

Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model], version: int, remedy: str) -> Model:
    """Read and check a file.

    Args:
        version: the only ``format_version`` that is taken.

    Raises:
        BadInputError: unreadable, not JSON, or not of this shape; names the place.
        FormatVersionError: another format version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", remedy) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path}: not JSON ({error})", remedy) from error
    if not isinstance(data, dict) or data.get("format_version") != version:
        found = data.get("format_version") if isinstance(data, dict) else None
        raise FormatVersionError(str(path), found, version)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInputError(f"{path}: {place}: {first['msg']}", remedy) from error
