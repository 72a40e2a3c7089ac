"""A profile: sealed, immutable, refused once it was touched."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from calibration.shelf.files import seal_of
from calibration.shelf.profile import Profile, ProfileError, load_gain, load_profile, profile_bytes
from tests.calibration.visiting import fitted, variant


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    profile, files = fitted()
    (tmp_path / "profile.json").write_bytes(profile_bytes(profile))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path / "profile.json"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def test_a_profile_comes_back_as_it_was(stored: Path) -> None:
    profile, _ = fitted()
    back = load_profile(stored, "scope-1")
    assert back == profile
    assert np.array_equal(back.colour_model.coefficients, profile.colour_model.coefficients)
    assert load_profile(stored.parent) == profile
    assert profile.profile_id.startswith("cal-20261201-")
    assert (profile.expires_at - profile.created_at).days == 30


def test_spaces_and_order_do_not_matter(stored: Path) -> None:
    content = json.loads(stored.read_bytes())
    stored.write_text(json.dumps(dict(reversed(content.items()))))
    assert load_profile(stored) == fitted()[0]


def bend(content: dict[str, Any]) -> None:
    content["model"]["coefficients"][0][0] += 1e-9


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(operator="Somebody Else"),
        lambda content: content.update(expires_at="2036-01-01T00:00:00Z"),
        lambda content: content.update(outcome="pass", reasons=["fine"]),
        lambda content: content.pop("sha256"),
        lambda content: content.pop("flat_field"),
        bend,
    ],
)
@pytest.mark.requirement("R-COL-2")
def test_a_profile_edited_by_hand_is_refused(stored: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit(stored, change)
    with pytest.raises(ProfileError, match=r"profile\.json: was changed after it was made .* fit a new profile"):
        load_profile(stored)


def test_a_new_seal_under_the_old_id_is_refused(stored: Path) -> None:
    def forge(content: dict[str, Any]) -> None:
        content["operator"] = "Somebody Else"
        content["sha256"] = seal_of(content, leave_out=("profile_id",))

    edit(stored, forge)
    with pytest.raises(ProfileError, match="not its own"):
        load_profile(stored)


def test_another_dermoscopes_profile_is_refused(stored: Path) -> None:
    with pytest.raises(ProfileError, match="belongs to the dermoscope scope-1, not to scope-2"):
        load_profile(stored, "scope-2")


def test_a_newer_format_is_refused(stored: Path) -> None:
    edit(stored, lambda content: content.update(schema_version=2))
    with pytest.raises(ProfileError, match="newer software"):
        load_profile(stored)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'"profile"', b"null"])
def test_a_damaged_file_is_refused_in_a_sentence(stored: Path, data: bytes) -> None:
    stored.write_bytes(data)
    with pytest.raises(ProfileError, match=r"profile\.json: the profile is damaged .* fit a new profile"):
        load_profile(stored)


def test_a_missing_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "profile.json")


def test_a_model_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    odd = variant(model={"kind": "matrix", "coefficients": [[1.0, 0.0, 0.0]]})
    (tmp_path / "profile.json").write_bytes(profile_bytes(odd))
    with pytest.raises(ProfileError, match="colour model cannot be used"):
        load_profile(tmp_path)


def npy(array: np.ndarray[Any, Any], *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def test_the_gain_map_comes_back_as_it_was(stored: Path) -> None:
    gain = load_gain(fitted()[0], stored.parent)
    assert gain is not None
    assert gain.size == (384, 512)
    assert gain.gain.min() >= 0.5
    assert gain.gain.max() <= 2.0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (npy(np.ones((9, 7, 3), np.float32)), "is 7×9 and not 64×48"),
        (npy(np.ones((48, 64, 3), np.float32)), "was changed"),
        (npy(np.array([{}]), pickled=True), "is damaged"),
        (b"", "is damaged"),
        (b"\x93NUMPY\x01\x00", "is damaged"),
    ],
)
@pytest.mark.requirement("R-COL-2")
def test_another_gain_map_is_refused(stored: Path, data: bytes, why: str) -> None:
    stored.with_name("gain.npy").write_bytes(data)
    with pytest.raises(ProfileError, match=why):
        load_gain(fitted()[0], stored.parent)


def test_a_lost_gain_map_is_not_done_without(stored: Path) -> None:
    stored.with_name("gain.npy").unlink()
    with pytest.raises(ProfileError, match=r"gain\.npy: the gain map cannot be read"):
        load_gain(fitted()[0], stored.parent)


def test_the_shape_of_a_picture_decides_whether_it_fits() -> None:
    profile = fitted()[0]
    assert profile.size == (512, 384)
    assert profile.fits(1024, 768)
    assert profile.fits(511, 384)
    assert not profile.fits(1920, 1080)
    assert variant(flat_field=None).fits(1920, 1080)


def test_a_profile_cannot_be_changed() -> None:
    profile = fitted()[0]
    with pytest.raises(ValidationError):
        profile.operator = "Somebody Else"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Profile.model_validate({**profile.model_dump(), "extra": 1})
