"""Profiles from strangers: bounded, checked, refused with one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ditto.artifacts.profile import load_profile
from ditto.errors import BadInputError, FormatVersionError
from profile_parts import service_profile


def written(tmp_path: Path, change: Any = None) -> Path:
    data = json.loads(service_profile().model_dump_json())
    if change is not None:
        change(data)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(data))
    return path


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = service_profile()
    profile.save(tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json") == profile


def _service(data: Any) -> Any:
    return data["services"][0]


CHANGES = {
    "a path for a name": lambda d: _service(d).update(name="/etc/passwd"),
    "a quote in a verb": lambda d: _service(d)["classes"][0]["match"].update(verb='GET"'),
    "code in a mix": lambda d: _service(d)["blocks"][0].update(mix={"mov; ud2": 1.0}),
    "a share above one": lambda d: _service(d)["classes"][0].update(probability=1.5),
    "a block that is not there": lambda d: _service(d)["classes"][0]["program"][0].update(block=9),
    "a class that is not there": lambda d: _service(d)["blocks"][0].update(request_class=7),
    "an unknown key": lambda d: d.update(hook="rm"),
    "not a number": lambda d: _service(d)["blocks"][0].update(instructions="many"),
    "endless work": lambda d: _service(d)["blocks"][0].update(instructions=1e300),
    "a negative count": lambda d: _service(d)["blocks"][0].update(load_distance=[-1.0]),
    "a thousand roles": lambda d: _service(d).update(roles=_service(d)["roles"] * 1000),
    "an unknown operation": lambda d: _service(d)["classes"][0]["program"][0].update(kind="execve"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_not_allowed_is_refused_in_one_line(tmp_path: Path, change: Any) -> None:
    path = written(tmp_path, change)
    with pytest.raises(BadInputError) as caught:
        load_profile(path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 7}', "[" * 100_000])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(BadInputError):
        load_profile(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, lambda d: d.update(format_version=99))
    with pytest.raises(FormatVersionError) as caught:
        load_profile(path)
    assert "99" in caught.value.message and "version 1" in caught.value.message and caught.value.remedy
