"""Which profile a capture is corrected with, and what its answer says of that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from agent.answer import texts
from agent.answer.colours import ShelfColours, square_region
from agent.answer.pipeline import Analysis
from agent.answer.scan import CalibrationState
from agent.intake.reasons import Reason, Rejection
from calibration.correction.apply import Corrector
from calibration.shelf.reading import Shelf
from calibration.shelf.writing import activate, put_profile, put_verification
from engines.preprocess import centre_square, crop_and_resize
from tests.calibration.visiting import NOW, SIZE, fitted, verification_of, verified

SCOPE = "scope-1"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "calibration")


@pytest.fixture
def calibrated(shelf: Shelf) -> Shelf:
    profile = fitted()[0]
    put_profile(shelf, profile, fitted()[1])
    put_verification(shelf, verification_of(profile), verified()[1])
    activate(shelf, profile, "Ana", NOW)
    return shelf


def colours_of(
    shelf: Shelf, *, now: datetime = NOW, trusted: bool = True, require: bool = False, drift: tuple[str, ...] = ()
) -> ShelfColours:
    return ShelfColours(shelf, require=require, clock=lambda: now, clock_trusted=lambda: trusted, drift=lambda _: drift)


@pytest.mark.requirement("R-COL-3")
def test_without_a_profile_the_picture_stays_as_it_is_and_the_answer_says_so(shelf: Shelf) -> None:
    colours = colours_of(shelf)(SCOPE, SIZE)
    small = np.full((224, 224, 3), 120, np.uint8)
    assert colours.correct(small, SIZE) is small
    assert colours.calibration.state is CalibrationState.NONE
    assert colours.warnings == (texts.NOT_CALIBRATED,)


def test_a_valid_profile_corrects_without_a_word(calibrated: Shelf) -> None:
    colours = colours_of(calibrated, now=NOW + timedelta(days=3))(SCOPE, SIZE)
    assert colours.warnings == ()
    assert colours.calibration.state is CalibrationState.VALID
    assert colours.calibration.profile_id == fitted()[0].profile_id
    assert colours.calibration.age_days == pytest.approx(3.0)
    rgb = np.random.default_rng(0).integers(60, 200, (*SIZE, 3), dtype=np.uint8)
    small = crop_and_resize(rgb, 224)
    got = colours.correct(small, SIZE)
    active = calibrated.active(SCOPE)
    assert active
    assert active.corrector.gain is not None, "this profile has a flat field, so the region matters"
    np.testing.assert_array_equal(got, active.corrector.small(small, square_region(*SIZE)))
    assert not np.array_equal(got, active.corrector.small(small)), "the square is not the whole picture"
    assert not np.array_equal(got, small)


def test_the_square_is_corrected_as_the_whole_picture_would_be(calibrated: Shelf) -> None:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    smooth = np.stack([90 + rows / 6, 80 + columns / 8, 100 + (rows + columns) / 16], axis=2).astype(np.uint8)
    active = calibrated.active(SCOPE)
    assert active
    corrector: Corrector = active.corrector
    whole = corrector.full(smooth)[centre_square(*SIZE)]
    square = np.ascontiguousarray(smooth[centre_square(*SIZE)])
    part = corrector.small(square, square_region(*SIZE))
    assert np.abs(whole.astype(int) - part.astype(int)).max() <= 1


@pytest.mark.requirement("R-COL-3")
def test_an_expired_profile_still_corrects_and_is_said(calibrated: Shelf) -> None:
    colours = colours_of(calibrated, now=NOW + timedelta(days=40))(SCOPE, SIZE)
    assert colours.calibration.state is CalibrationState.EXPIRED
    assert "expired" in colours.warnings[0]
    assert colours.corrector is not None


@pytest.mark.fault("F16")
def test_a_clock_in_1970_does_not_let_a_profile_expire(calibrated: Shelf) -> None:
    early = datetime(1970, 1, 1, tzinfo=timezone.utc)
    colours = colours_of(calibrated, now=early, trusted=False)(SCOPE, SIZE)
    assert colours.calibration.state is CalibrationState.VALID
    assert colours.calibration.age_days is None
    assert "clock" in colours.warnings[0]


def test_another_dermoscope_has_not_this_profile(calibrated: Shelf) -> None:
    assert colours_of(calibrated)("scope-2", SIZE).calibration.state is CalibrationState.NONE


@pytest.mark.requirement("R-COL-2")
def test_a_damaged_profile_is_none_and_the_answer_says_why(calibrated: Shelf) -> None:
    path = calibrated.profile_folder(SCOPE, fitted()[0].profile_id) / "profile.json"
    path.chmod(0o640)
    path.write_bytes(path.read_bytes().replace(b"Ana", b"Eva"))
    colours = colours_of(calibrated)(SCOPE, SIZE)
    assert colours.calibration.state is CalibrationState.NONE
    assert colours.corrector is None
    assert colours.warnings[0] == texts.NOT_CALIBRATED
    assert "was changed" in colours.warnings[1]


def test_a_picture_of_another_shape_is_not_corrected_by_this_flat_field(calibrated: Shelf) -> None:
    colours = colours_of(calibrated)(SCOPE, (500, 500))
    assert colours.calibration.state is CalibrationState.NONE
    assert colours.corrector is None
    assert "500 x 500" in colours.warnings[1]
    assert "512 x 384" in colours.warnings[1]


@pytest.mark.parametrize("age", [0, 40])
@pytest.mark.requirement("R-COL-3")
def test_where_calibration_is_required_only_valid_profiles_answer(calibrated: Shelf, age: int) -> None:
    ask = colours_of(calibrated, now=NOW + timedelta(days=age), require=True)
    if age == 0:
        assert ask(SCOPE, SIZE).calibration.state is CalibrationState.VALID
    for scope in (SCOPE,) if age else ("scope-2",):
        with pytest.raises(Rejection, match="calibrat") as caught:
            ask(scope, SIZE)
        assert caught.value.reason is Reason.NOT_CALIBRATED


@pytest.mark.requirement("R-COL-4")
def test_drift_since_the_calibration_is_said(calibrated: Shelf) -> None:
    assert colours_of(calibrated, drift=("They drifted.",))(SCOPE, SIZE).warnings == ("They drifted.",)


def test_a_profile_activated_meanwhile_is_used_at_once(shelf: Shelf) -> None:
    ask = colours_of(shelf)
    assert ask(SCOPE, SIZE).calibration.state is CalibrationState.NONE
    profile = fitted()[0]
    put_profile(shelf, profile, fitted()[1])
    put_verification(shelf, verification_of(profile), verified()[1])
    activate(shelf, profile, "Ana", NOW)
    assert ask(SCOPE, SIZE).calibration.profile_id == profile.profile_id


def test_the_network_sees_the_corrected_picture(analysed: Callable[..., Analysis], calibrated: Shelf, ladder) -> None:
    plain = analysed().answer
    corrected = analysed(colours=colours_of(calibrated)).answer
    assert plain.calibration.state is CalibrationState.NONE
    assert corrected.calibration.profile_id == fitted()[0].profile_id
    assert texts.NOT_CALIBRATED in plain.warnings
    assert corrected.warnings == ()
    first, second = ladder.images
    assert np.abs(first - second).mean() > 0.01
