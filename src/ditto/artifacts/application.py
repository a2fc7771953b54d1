"""The clone of an app of several services: its tiers, and which of them call which.

A folder holding ``application.json`` (this model) and the clone of each tier in a folder of its name.  Like a profile,
it may come from a stranger: names are neutral words, and every number is bounded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ditto.artifacts.base import Model
from ditto.artifacts.files import write_atomic
from ditto.artifacts.program import MAX_DOWNSTREAMS
from ditto.artifacts.reading import read_model

FORMAT_VERSION = 1
FILE_NAME = "application.json"
MOST_BYTES = 1 << 20
REMEDY = "make it with ditto clone APP.toml -o OUT, from an app of several services"

TierName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Of a tier, of its folder and of its containers: a host name."""


class Tier(Model):
    """One service's clone.

    Attributes:
        port: that it listens on unless told otherwise.
        calls: the tier that its profile's downstream of each number is; None for one that is stood in for.
    """

    name: TierName
    port: Annotated[int, Field(ge=1, le=65535)]
    calls: Annotated[list[TierName | None], Field(max_length=MAX_DOWNSTREAMS)] = []


class Application(Model):
    """The tiers, the entry first."""

    format_version: int = FORMAT_VERSION
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _consistent(self) -> Application:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise ValueError("two tiers have the same name")
        if len({tier.port for tier in self.tiers}) < len(names):
            raise ValueError("two tiers have the same port")
        for tier in self.tiers:
            for called in tier.calls:
                if called is not None and called not in names:
                    raise ValueError(f"{tier.name} calls {called}, which is no tier")
        return self

    @property
    def entry(self) -> Tier:
        """The tier that clients call."""
        return self.tiers[0]

    def tier(self, name: str) -> Tier:
        """By name; raises KeyError where there is none."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(name)

    def start_order(self) -> list[Tier]:
        """Called tiers before their callers where that can be; the entry last."""
        order: list[Tier] = []
        begun: set[str] = set()
        stack = [(self.entry, iter(self.entry.calls))]
        begun.add(self.entry.name)
        while stack:
            tier, calls = stack[-1]
            for name in calls:
                if name is not None and name not in begun:
                    begun.add(name)
                    called = self.tier(name)
                    stack.append((called, iter(called.calls)))
                    break
            else:
                order.append(tier)
                stack.pop()
        return [tier for tier in self.tiers if tier.name not in begun] + order

    def save(self, folder: Path) -> None:
        """Write ``application.json`` into ``folder``."""
        write_atomic(folder / FILE_NAME, self.model_dump_json(indent=1) + "\n")


def is_application(folder: Path) -> bool:
    """Whether the folder holds the clone of an app of several services, and not one service's."""
    return (folder / FILE_NAME).is_file()


def load_application(folder: Path) -> Application:
    """Read what `Application.save` wrote.

    Raises:
        BadInputError: missing, not JSON, or outside the schema.
        FormatVersionError: another format version.
    """
    return read_model(folder / FILE_NAME, Application, FORMAT_VERSION, REMEDY, most_bytes=MOST_BYTES)
