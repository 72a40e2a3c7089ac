"""The shelf: what is in use, what may be, and what a running agent sees of it."""

from __future__ import annotations

import json
import os
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from calibration.shelf import files as shelf_files
from calibration.shelf import writing as keep
from calibration.shelf.files import ShelfError, locked
from calibration.shelf.profile import Profile, ProfileError
from calibration.shelf.reading import Shelf
from calibration.shelf.record import Override, What
from calibration.shelf.standing import State, judge_standing
from calibration.shelf.verification import Verification
from calibration.shelf.writing import NotVerified, ProfileStale, activate, put_profile, put_verification, rollback
from tests.calibration.visiting import NOW, fitted, shot, variant, verification_of, verified

SCOPE = "scope-1"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "calibration")


def bring(shelf: Shelf, profile: Profile, *verifications: Verification) -> None:
    """Put a profile and its verifications on the shelf."""
    put_profile(shelf, profile, fitted()[1])
    for verification in verifications:
        put_verification(shelf, verification, verified()[1])


def in_use(shelf: Shelf, profile: Profile | None = None) -> Profile:
    profile = profile or fitted()[0]
    bring(shelf, profile, verification_of(profile))
    activate(shelf, profile, "Ana", NOW)
    return profile


def blocked(profile: Profile, **changes: object) -> Verification:
    return verification_of(profile, verdict="block", reasons=("Too far off: fit anew.",), **changes)


def test_an_empty_shelf(shelf: Shelf) -> None:
    assert shelf.active(SCOPE) is None
    assert shelf.dermoscopes() == ()
    standing = shelf.standing(SCOPE, NOW)
    assert standing.state is State.NONE
    assert "never calibrated" in standing.sentences[0]
    assert not shelf.folder.exists(), "looking must not make anything"


def test_a_verified_profile_is_used(shelf: Shelf) -> None:
    profile = in_use(shelf)
    active = shelf.active(SCOPE)
    assert active is not None
    assert active.profile == profile
    assert active.state(NOW) is State.VALID
    assert active.use.commissioning == verified()[0].after.mean
    assert shelf.standing(SCOPE, NOW + timedelta(days=3)).age_days == 3.0
    corrected = active.corrector.full(shot("chart1"))
    assert corrected.shape == shot("chart1").shape
    assert (corrected != shot("chart1")).any()


@pytest.mark.requirement("R-COL-1")
def test_without_a_verification_nothing_is_activated(shelf: Shelf) -> None:
    profile = fitted()[0]
    bring(shelf, profile)
    with pytest.raises(NotVerified, match="take a second shot"):
        activate(shelf, profile, "Ana", NOW)
    assert shelf.active(SCOPE) is None


@pytest.mark.requirement("R-COL-1")
def test_after_a_failed_verification_nothing_is_activated(shelf: Shelf) -> None:
    profile = fitted()[0]
    bring(shelf, profile, verification_of(profile), blocked(profile))
    with pytest.raises(NotVerified, match="Too far off"):
        activate(shelf, profile, "Ana", NOW)
    put_verification(shelf, verification_of(profile, made_at=NOW + timedelta(minutes=5)), {})
    assert activate(shelf, profile, "Ana", NOW).override is None


def test_a_failed_fit_is_not_activated_although_a_second_shot_passed(shelf: Shelf) -> None:
    profile = variant(outcome="fail", reasons=("Over-exposed: white.",))
    bring(shelf, profile, verification_of(profile))
    with pytest.raises(NotVerified, match="failed its own fit"):
        activate(shelf, profile, "Ana", NOW)


def test_an_edited_verification_does_not_count(shelf: Shelf) -> None:
    profile = fitted()[0]
    failed = blocked(profile)
    bring(shelf, profile, failed)
    path = shelf.verification_folder(SCOPE, failed.verification_id) / "verification.json"
    path.write_text(path.read_text().replace('"block"', '"pass"'))
    with pytest.raises(ShelfError, match="was changed after it was made"):
        activate(shelf, profile, "Ana", NOW)


@pytest.mark.requirement("R-COL-1")
def test_an_override_is_recorded_and_said_with_each_answer(shelf: Shelf) -> None:
    profile = fitted()[0]
    bring(shelf, profile, blocked(profile))
    activate(shelf, profile, "Ana", NOW, Override(name="Dr Okafor", reason="no other chart before Monday"))
    event = shelf.record(SCOPE).events[-1]
    assert event.what is What.ACTIVATED
    assert event.override == Override(name="Dr Okafor", reason="no other chart before Monday")
    standing = shelf.standing(SCOPE, NOW)
    assert standing.state is State.VALID
    assert any("Dr Okafor: no other chart before Monday" in sentence for sentence in standing.sentences)


def test_an_override_that_was_not_needed_leaves_no_stain(shelf: Shelf) -> None:
    profile = fitted()[0]
    bring(shelf, profile, verification_of(profile))
    assert activate(shelf, profile, "Ana", NOW, Override(name="Dr Okafor", reason="to be sure")).override is None
    assert shelf.standing(SCOPE, NOW).sentences == ()


def test_an_expired_profile_is_not_activated_even_by_override(shelf: Shelf) -> None:
    profile = fitted()[0]
    bring(shelf, profile, verification_of(profile))
    late = profile.expires_at
    with pytest.raises(ProfileStale, match="fit a new profile"):
        activate(shelf, profile, "Ana", late, Override(name="Dr Okafor", reason="please"))
    activate(shelf, profile, "Ana", late - timedelta(seconds=1))


def test_a_reshot_verification_warns_blocks_and_clears(shelf: Shelf) -> None:
    profile = in_use(shelf)
    warning = verification_of(profile, verdict="warn", reasons=("2.5 more: plan a new fit.",), commissioning=1.0)
    put_verification(shelf, warning, {})
    assert shelf.standing(SCOPE, NOW).sentences == ("2.5 more: plan a new fit.",)
    assert shelf.standing(SCOPE, NOW).state is State.VALID

    put_verification(shelf, blocked(profile, commissioning=1.0), {})
    standing = shelf.standing(SCOPE, NOW)
    assert standing.state is State.EXPIRED
    assert "did not hold against the chart" in standing.sentences[0]

    put_verification(shelf, verification_of(profile, commissioning=1.0), {})
    assert shelf.standing(SCOPE, NOW).state is State.VALID
    assert shelf.standing(SCOPE, NOW).sentences == ()


def test_rollback_goes_back_and_further_back(shelf: Shelf) -> None:
    first = in_use(shelf)
    second = in_use(shelf, variant(operator="Ben"))
    third = in_use(shelf, variant(operator="Cem"))
    assert len({first.profile_id, second.profile_id, third.profile_id}) == 3
    assert rollback(shelf, SCOPE, "Ana", NOW, "greens look odd").profile_id == second.profile_id
    assert shelf.record(SCOPE).events[-1].note == "greens look odd"
    assert rollback(shelf, SCOPE, "Ana", NOW).profile_id == first.profile_id
    active = shelf.active(SCOPE)
    assert active is not None
    assert active.profile == first
    with pytest.raises(ShelfError, match="no earlier profile"):
        rollback(shelf, SCOPE, "Ana", NOW)


def test_rollback_to_what_was_edited_is_refused_and_changes_nothing(shelf: Shelf) -> None:
    first = in_use(shelf)
    second = in_use(shelf, variant(operator="Ben"))
    path = shelf.profile_folder(SCOPE, first.profile_id) / "profile.json"
    path.write_text(path.read_text().replace("Ana Lopes", "Eve"))
    with pytest.raises(ProfileError, match="was changed"):
        rollback(shelf, SCOPE, "Ana", NOW)
    active = shelf.active(SCOPE)
    assert active is not None
    assert active.profile == second


def test_a_running_agent_takes_a_change_on_its_next_look_and_reads_nothing_before(shelf: Shelf) -> None:
    agents = Shelf(shelf.folder)
    assert agents.active(SCOPE) is None
    assert not agents.changed(SCOPE)
    first = in_use(shelf)
    assert agents.changed(SCOPE)
    seen = agents.active(SCOPE)
    assert seen is not None
    assert seen.profile == first
    assert not agents.changed(SCOPE)
    assert agents.active(SCOPE) is seen, "nothing changed, so nothing is read again"

    second = in_use(shelf, variant(operator="Ben"))
    assert agents.changed(SCOPE)
    again = agents.active(SCOPE)
    assert again is not None
    assert again.profile == second
    assert seen.profile == first, "what a capture is being corrected with does not change under it"


@pytest.mark.requirement("R-COL-2")
def test_an_edit_of_the_profile_in_use_is_found_while_the_agent_runs(shelf: Shelf) -> None:
    profile = in_use(shelf)
    assert shelf.active(SCOPE) is not None
    path = shelf.profile_folder(SCOPE, profile.profile_id) / "profile.json"
    path.write_text(path.read_text().replace('"expires_at": "2026', '"expires_at": "2036'))
    assert shelf.changed(SCOPE)
    with pytest.raises(ProfileError, match="was changed after it was made"):
        shelf.active(SCOPE)
    standing = shelf.standing(SCOPE, NOW)
    assert standing.state is State.NONE
    assert "was changed after it was made" in standing.sentences[0]


def test_another_profiles_gain_map_is_found(shelf: Shelf) -> None:
    profile = in_use(shelf)
    assert shelf.active(SCOPE) is not None
    path = shelf.profile_folder(SCOPE, profile.profile_id) / "gain.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(ProfileError, match="gain map was changed"):
        shelf.active(SCOPE)


def test_another_whole_profile_under_the_same_name_is_found(shelf: Shelf) -> None:
    profile = in_use(shelf)
    other = variant(operator="Eve")
    bring(shelf, other)
    folder = shelf.profile_folder(SCOPE, profile.profile_id)
    (folder / "profile.json").write_bytes((shelf.profile_folder(SCOPE, other.profile_id) / "profile.json").read_bytes())
    with pytest.raises(ProfileError, match="not the profile that was activated"):
        shelf.active(SCOPE)


def test_a_record_edited_by_hand_is_refused_and_says_what_to_do(shelf: Shelf) -> None:
    in_use(shelf)
    path = shelf.place(SCOPE) / "record.json"
    content = json.loads(path.read_text())
    content["active"]["activated_at"] = "2031-01-01T00:00:00Z"
    path.write_text(json.dumps(content))
    with pytest.raises(ShelfError, match=r"changed by hand .*\(mv "):
        shelf.active(SCOPE)
    path.write_bytes(b"")
    assert "damaged" in shelf.standing(SCOPE, NOW).sentences[0]


def test_a_record_copied_from_another_dermoscope_is_refused(shelf: Shelf) -> None:
    in_use(shelf)
    (shelf.folder / "scope-2").mkdir()
    (shelf.folder / "scope-2" / "record.json").write_bytes((shelf.place(SCOPE) / "record.json").read_bytes())
    with pytest.raises(ShelfError, match="record of the dermoscope scope-1"):
        shelf.active("scope-2")


@pytest.mark.parametrize("wrong", ["", "../scope-1", "a/b", "scope 1", ".hidden", "x" * 65, "scope-1\n"])
def test_what_is_no_id_reaches_no_file(shelf: Shelf, wrong: str) -> None:
    with pytest.raises(ShelfError, match="no dermoscope id"):
        shelf.place(wrong)


@pytest.mark.fault("F06")
def test_a_full_disk_leaves_what_was_in_use(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_use(shelf)
    second = variant(operator="Ben")
    bring(shelf, second, verification_of(second))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        activate(shelf, second, "Ana", NOW)
    monkeypatch.undo()
    active = Shelf(shelf.folder).active(SCOPE)
    assert active is not None
    assert active.profile == first
    assert not list(shelf.place(SCOPE).glob("*.part*")), "no leftovers"
    assert activate(shelf, second, "Ana", NOW).profile_id == second.profile_id


@pytest.mark.fault("F11")
def test_a_cut_before_the_rename_leaves_no_half_profile(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = fitted()[0]

    def cut(_target: Path, _to: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keep.Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        put_profile(shelf, profile, fitted()[1])
    monkeypatch.undo()
    assert not shelf.profile_folder(SCOPE, profile.profile_id).exists()
    assert shelf.record(SCOPE).events == ()
    put_profile(shelf, profile, fitted()[1])
    assert shelf.profile(SCOPE, profile.profile_id) == profile


def test_two_commands_do_not_write_over_each_other(shelf: Shelf) -> None:
    profiles = [variant(operator=f"technician {number}") for number in range(6)]
    threads = [threading.Thread(target=put_profile, args=(Shelf(shelf.folder), one, {})) for one in profiles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = shelf.record(SCOPE)
    assert sorted(record.profile_ids()) == sorted(profile.profile_id for profile in profiles)
    assert [event.sequence for event in record.events] == [1, 2, 3, 4, 5, 6]


def test_a_lock_that_is_held_is_waited_for_no_longer_than_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_files, "LOCK_TIMEOUT_S", 0.1)
    with locked(shelf.place(SCOPE)), pytest.raises(ShelfError, match="another calibrate command"):
        put_profile(shelf, fitted()[0], {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_agent(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    in_use(Shelf(tmp_path / "calibration"))
    for path in (tmp_path / "calibration").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346), path


# The clock (F16). The profile is of 1 December 2026 and expires on the 31st.


def standing_at(now: datetime, *, trusted: bool = True, verified_at: datetime | None = None) -> tuple[State, str]:
    profile = fitted()[0]
    use = keep.Active(
        profile_id=profile.profile_id,
        profile_sha256=profile.sha256,
        activated_at=NOW,
        operator="Ana",
        commissioning=1.0,
        last_verified_at=verified_at,
    )
    standing = judge_standing(profile, use, now, trusted=trusted)
    assert (standing.age_days is None) == any("not known" in sentence for sentence in standing.sentences)
    return standing.state, " ".join(standing.sentences)


def test_a_profile_expires_to_the_second() -> None:
    end = fitted()[0].expires_at
    assert standing_at(end - timedelta(seconds=1)) == (State.VALID, "")
    state, sentence = standing_at(end)
    assert state is State.EXPIRED
    assert "expired on 31 December 2026: ask for a calibration" in sentence


@pytest.mark.fault("F16")
@pytest.mark.parametrize("trusted", [True, False])
def test_a_clock_in_1970_tells_no_age_and_expires_nothing(trusted: bool) -> None:
    state, sentence = standing_at(datetime(1970, 1, 1, 0, 5, tzinfo=timezone.utc), trusted=trusted)
    assert state is State.VALID
    assert "set its clock" in sentence


@pytest.mark.fault("F16")
def test_a_clock_that_went_back_does_not_bring_a_profile_back_to_life() -> None:
    end = fitted()[0].expires_at
    state, _ = standing_at(datetime(1970, 1, 1, tzinfo=timezone.utc), verified_at=end + timedelta(days=1))
    assert state is State.EXPIRED


@pytest.mark.fault("F16")
def test_a_clock_that_nobody_vouches_for_does_not_expire_a_profile() -> None:
    state, sentence = standing_at(datetime(2099, 1, 1, tzinfo=timezone.utc), trusted=False)
    assert state is State.VALID
    assert "not known" in sentence


def test_a_clock_a_few_minutes_behind_is_no_fault() -> None:
    assert standing_at(NOW - timedelta(minutes=10)) == (State.VALID, "")
