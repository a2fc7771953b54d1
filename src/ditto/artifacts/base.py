"""The types that the parts of a profile are made of: frozen values whose numbers are bounded."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[float, Field(ge=0.0, le=1e12)]
Bytes = Annotated[int, Field(ge=0, le=1 << 32)]
SmallInt = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
SyscallNumber = Annotated[int, Field(ge=0, le=1023)]
Histogram = Annotated[list[Count], Field(max_length=64)]


class Model(BaseModel):
    """A frozen value that refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
