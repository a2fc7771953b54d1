"""The manifest of an application's clone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from ditto.artifacts.application import FILE_NAME, Application, Tier, is_application, load_application
from ditto.errors import BadInputError, FormatVersionError


def three() -> Application:
    return Application(
        tiers=[
            Tier(name="tier-1", port=8001, calls=["tier-3", None, "tier-2"]),
            Tier(name="tier-2", port=8002, calls=["tier-3"]),
            Tier(name="tier-3", port=8003),
        ]
    )


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    assert not is_application(tmp_path)
    three().save(tmp_path)
    assert is_application(tmp_path)
    assert load_application(tmp_path) == three()


def test_called_tiers_start_before_their_callers() -> None:
    assert [tier.name for tier in three().start_order()] == ["tier-3", "tier-2", "tier-1"]


def test_tiers_that_call_each_other_all_start() -> None:
    both = Application(
        tiers=[
            Tier(name="a", port=1, calls=["b"]),
            Tier(name="b", port=2, calls=["a"]),
            Tier(name="c", port=3),
        ]
    )
    assert [tier.name for tier in both.start_order()] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../x"}, "tiers.0.name"),
        ({"name": "tier-2"}, "same name"),
        ({"port": 8002}, "same port"),
        ({"port": 0}, "tiers.0.port"),
        ({"calls": ["nobody"]}, "nobody, which is no tier"),
        ({"calls": [None] * 17}, "tiers.0.calls"),
        ({"command": "rm"}, "tiers.0.command"),
    ],
)
def test_a_hostile_manifest_is_one_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    data = json.loads(three().model_dump_json())
    data["tiers"][0] |= change
    (tmp_path / FILE_NAME).write_text(json.dumps(data))
    with pytest.raises(BadInputError, match=said):
        load_application(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(json.loads(three().model_dump_json()) | {"format_version": 9}))
    with pytest.raises(FormatVersionError):
        load_application(tmp_path)


def test_what_went_wrong_with_one_tier_comes_whole_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(FormatVersionError("app.lens", 1, 2)))
    assert type(error) is FormatVersionError and str(error) == str(FormatVersionError("app.lens", 1, 2))
    assert error.remedy and error.exit_code == 2
