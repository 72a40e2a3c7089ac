"""The running agent and the technician's commands: a profile put into use meanwhile corrects the next capture."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.answer.scan import CalibrationState, ScanState
from agent.intake.reasons import Reason
from calibration.shelf.profile import expiry
from calibration.shelf.reading import FOLDER, Shelf
from calibration.shelf.writing import activate, put_profile, put_verification, rollback
from tests.calibration.visiting import fitted, variant, verification_of, verified
from tests.faults.running import running

WriteConfig = Callable[..., Path]


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    skin = cv2.resize(rng.integers(40, 250, (5, 6, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".png", skin)[1])


def put_into_use(shelf: Shelf, made_at: datetime) -> str:
    profile = variant(created_at=made_at, expires_at=expiry(made_at))
    put_profile(shelf, profile, fitted()[1])
    put_verification(shelf, verification_of(profile, made_at=made_at), verified()[1])
    activate(shelf, profile, "Ana", made_at)
    return profile.profile_id


def test_a_profile_put_into_use_meanwhile_corrects_the_next_capture(write_config: WriteConfig, tmp_path: Path) -> None:
    folder, shelf = tmp_path / "scope-1", Shelf(tmp_path / "state" / FOLDER)

    with running(write_config()) as (_, commits):

        def answer_to(name: str, seed: int):
            (folder / name).write_bytes(picture(seed))
            answer = commits.wait(lambda by_name: name in by_name)[name].answer
            assert answer is not None
            return answer

        assert answer_to("before.png", 1).calibration.state is CalibrationState.NONE
        first = put_into_use(shelf, datetime.now(timezone.utc))
        with_first = answer_to("first.png", 2)
        assert (with_first.calibration.profile_id, with_first.calibration.state) == (first, CalibrationState.VALID)
        second = put_into_use(shelf, datetime.now(timezone.utc))
        assert second != first
        assert answer_to("second.png", 3).calibration.profile_id == second
        rollback(shelf, "scope-1", "Ana", datetime.now(timezone.utc), "second looked wrong")
        assert answer_to("back.png", 4).calibration.profile_id == first


@pytest.mark.requirement("R-COL-3")
def test_where_calibration_is_required_others_are_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    config = write_config(("[store]", "[calibration]\nrequire = true\n[store]"))
    with running(config) as (_, commits):
        (tmp_path / "scope-1" / "early.png").write_bytes(picture(1))
        early = commits.wait(lambda by_name: "early.png" in by_name)["early.png"]
        assert (early.state, early.reason) == (ScanState.REJECTED, Reason.NOT_CALIBRATED)
        assert early.sentence
        assert "calibrat" in early.sentence
        put_into_use(Shelf(tmp_path / "state" / FOLDER), datetime.now(timezone.utc))
        (tmp_path / "scope-1" / "late.png").write_bytes(picture(2))
        assert commits.wait(lambda by_name: "late.png" in by_name)["late.png"].state is ScanState.ANSWERED


@pytest.mark.parametrize("line", ['require = "yes"', "max_age_days = 0", "limits = { mean = -1.0 }", "reqire = true"])
def test_a_wrong_setting_is_named(write_config: WriteConfig, line: str) -> None:
    from agent.config import ConfigError, load_config

    with pytest.raises(ConfigError, match=r"calibration\." + line.split(" ", maxsplit=1)[0]):
        load_config(write_config(("[store]", f"[calibration]\n{line}\n[store]")))
