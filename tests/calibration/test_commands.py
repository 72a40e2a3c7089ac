"""The technician's verbs: exit codes, sentences, JSON, and that nothing is done by halves."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from calibration.shelf.reading import Shelf
from calibration.shelf.record import What
from calibration.shelf.standing import State
from tests.calibration.visiting import NOW, Technician, shot


@pytest.fixture
def ana(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Technician:
    monkeypatch.chdir(tmp_path)
    return Technician(tmp_path, capsys, monkeypatch)


def shelf_of(technician: Technician) -> Shelf:
    return Shelf(technician.state / "calibration")


def config(folder: Path, text: str = "", *scopes: str) -> Path:
    path = folder / "agent.toml"
    blocks = "".join(f'[[dermoscope]]\nid = "{scope}"\nfolder = "{scope}"\n' for scope in scopes or ("scope-1",))
    path.write_text(f'[device]\nid = "d"\nclinic_id = "c"\nstate_dir = "state"\n{blocks}{text}')
    return path


# detect


def test_detect_finds_and_shows(ana: Technician) -> None:
    said = ana.types("detect", ana.has("chart1"), "--out", ana.folder / "seen", at=False)
    assert said.code == 0
    assert "ColorChecker24" in said.out
    with Image.open(ana.folder / "seen" / "chart1-chart.png") as picture:
        green = (np.asarray(picture) == (0, 220, 0)).all(axis=-1)
        assert green.mean() > 0.01, "the patches are marked"


def test_detect_as_json(ana: Technician) -> None:
    said = ana.types("detect", ana.has("chart1"), "--json", at=False)
    found = json.loads(said.out)
    assert found["exit_code"] == 0
    assert found["shots"][0]["patches"] == 24
    assert len(found["shots"][0]["corners"]) == 4


def test_no_chart_is_exit_3_and_one_sentence(ana: Technician) -> None:
    for verb in ("detect", "fit"):
        said = ana.types(verb, ana.has("skin"), at=verb == "fit")
        assert said.code == 3
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith("No chart found")
    assert shelf_of(ana).record("scope-1").events == ()


def test_no_chart_as_json(ana: Technician) -> None:
    said = ana.types("detect", ana.has("skin"), "--json", at=False)
    refused = json.loads(said.out)
    assert refused["exit_code"] == said.code == 3
    assert refused["sentence"] == said.err.strip()


def test_corners_show_where_the_chart_is(ana: Technician) -> None:
    first = json.loads(ana.types("detect", ana.has("chart1"), "--json", at=False).out)
    corners = [f"{x:.0f},{y:.0f}" for x, y in first["shots"][0]["corners"]]
    given = json.loads(ana.types("detect", ana.has("chart1"), "--json", "--corners", *corners, at=False).out)
    assert given["shots"][0]["found_by"] == "by the given corners"
    with pytest.raises(SystemExit):
        ana.types("detect", ana.has("chart1"), "--corners", "1,1", "2", "3,3", "4,4", at=False)
    both = ana.types("detect", ana.has("chart1"), ana.has("chart2"), "--corners", *corners, at=False)
    assert both.code == 3
    assert "Corners belong to one shot" in both.err


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("missing.png", None, "No such file"),
        ("text.png", b"hello", "is no JPEG"),
        ("empty.png", b"", "is no JPEG"),
        ("cut.png", b"cut", "is damaged or cut off"),
        ("folder", b"folder", "is a folder"),
    ],
)
def test_what_is_no_picture_is_said(ana: Technician, name: str, data: bytes | None, why: str) -> None:
    path = ana.folder / name
    if data == b"folder":
        path.mkdir()
    elif data == b"cut":
        whole = ana.has("chart1").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif data is not None:
        path.write_bytes(data)
    said = ana.types("detect", path, at=False)
    assert said.code == 2
    assert why in said.err
    assert said.err.count("\n") == 1


def test_the_same_shot_twice_is_refused(ana: Technician) -> None:
    copy = ana.folder / "copy.png"
    copy.write_bytes(ana.has("chart1").read_bytes())
    said = ana.types("fit", ana.has("chart1"), copy)
    assert said.code == 2
    assert "are the same picture" in said.err


# flatfield and fit


def test_flatfield_then_fit_uses_it(ana: Technician) -> None:
    assert ana.types("flatfield", ana.has("white0"), ana.has("white1")).code == 0
    made = json.loads(ana.types("fit", ana.has("chart1"), "--json").out)["profile"]
    assert made["flat_field"]["highest"] > 1.1
    assert made["outcome"] == "pass"
    assert made["operator"] == "Ana Lopes"
    assert made["chart"]["target_serial"] is None
    assert made["leave_one_out"]["mean"] < made["before"]["mean"] / 3


def test_fit_without_a_flat_field(ana: Technician) -> None:
    ana.types("flatfield", ana.has("white0"))
    said = ana.types("fit", ana.has("chart1"), "--no-flatfield", "--json", "--target-serial", "4711")
    made = json.loads(said.out)["profile"]
    assert made["flat_field"] is None
    assert made["chart"]["target_serial"] == "4711"


def test_white_frames_that_are_none_are_refused(ana: Technician) -> None:
    said = ana.types("flatfield", ana.has("chart1"))
    assert said.code == 2
    assert "white paper" in said.err
    Image.fromarray(shot("white0")[:200]).save(ana.folder / "small.png")
    said = ana.types("flatfield", ana.has("white0"), ana.folder / "small.png")
    assert said.code == 2
    assert "differ in size (512×200 and 512×384)" in said.err
    assert shelf_of(ana).flat_field("scope-1") is None


def test_yesterdays_flat_field_is_not_used_silently(ana: Technician) -> None:
    ana.types("flatfield", ana.has("white0"))
    ana.now = NOW + timedelta(days=2)
    said = ana.types("fit", ana.has("chart1"))
    assert said.code == 2
    assert "take white frames again" in said.err
    assert ana.types("fit", ana.has("chart1"), "--no-flatfield").code == 0


def test_a_flat_field_of_another_shape_is_not_used(ana: Technician) -> None:
    ana.types("flatfield", ana.has("white0"))
    Image.fromarray(shot("chart1")[20:-20]).save(ana.folder / "wide.png")
    said = ana.types("fit", ana.folder / "wide.png")
    assert said.code == 2
    assert "wide.png is 512×344 and the white frames were 512×384" in said.err


def test_an_edited_flat_field_is_refused(ana: Technician) -> None:
    ana.types("flatfield", ana.has("white0"))
    path = ana.state / "calibration" / "scope-1" / "flatfield" / "flatfield.json"
    path.write_text(path.read_text().replace("white0.png", "black0.png"))
    said = ana.types("fit", ana.has("chart1"))
    assert said.code == 2
    assert "make it again" in said.err


def test_an_overexposed_chart_fails_and_cannot_be_activated(ana: Technician) -> None:
    bright = np.clip(shot("chart1").astype(np.float64) * 1.5, 0, 255).astype(np.uint8)
    Image.fromarray(bright).save(ana.folder / "bright.png")
    said = ana.types("fit", ana.folder / "bright.png")
    assert said.code == 2
    assert "lower the exposure" in said.out
    assert "FAIL" in said.out
    said = ana.types("verify", ana.has("chart2"))
    assert said.code == 2
    assert "failed its own fit" in said.err
    assert ana.types("activate").code == 2
    assert shelf_of(ana).active("scope-1") is None


def test_a_vendors_own_target(ana: Technician) -> None:
    from calibration.references import COLORCHECKER24 as CHART

    rows = zip(CHART.patch_names, CHART.lab_d50.tolist(), strict=True)
    patches = [{"name": name, "lab": lab} for name, lab in rows]
    target = ana.folder / "own.json"
    target.write_text(json.dumps({"name": "Own target", "rows": 4, "columns": 6, "patches": patches}))
    made = json.loads(ana.types("fit", ana.has("chart1"), "--target", target, "--json").out)["profile"]
    assert made["chart"]["reference"] == "Own target"
    said = ana.types("verify", ana.has("chart2"))
    assert said.code == 2
    assert "fitted to the chart 'Own target'" in said.err
    assert ana.types("verify", ana.has("chart2"), "--target", target).code == 0
    target.write_text("{")
    assert ana.types("fit", ana.has("chart1"), "--target", target).code == 2


# verify, activate, and after


def test_the_whole_way(ana: Technician) -> None:
    assert ana.types("flatfield", ana.has("white0"), ana.has("white1")).code == 0
    assert ana.types("fit", ana.has("chart1")).code == 0
    assert ana.types("verify", ana.has("chart2")).code == 0
    assert ana.types("activate").code == 0
    active = shelf_of(ana).active("scope-1")
    assert active is not None
    assert active.state(NOW) is State.VALID
    whats = [event.what for event in shelf_of(ana).record("scope-1").events]
    assert whats == [What.FLAT_FIELD, What.FITTED, What.VERIFIED, What.ACTIVATED]


def test_the_fitted_shot_proves_nothing(ana: Technician) -> None:
    ana.fits()
    said = ana.types("verify", ana.has("chart1"))
    assert said.code == 2
    assert "the very shot" in said.err
    assert ana.types("activate").code == 2


def test_another_lamp_is_blocked_and_then_only_an_override_helps(ana: Technician) -> None:
    ana.fits()
    said = ana.types("verify", ana.has("lamp"))
    assert said.code == 2
    assert "BLOCKED" in said.out
    said = ana.types("activate")
    assert said.code == 2
    assert "did not pass its verification" in said.err
    for words in (["--override"], ["--override", "--name", "Dr Okafor"], ["--override", "--reason", " "]):
        said = ana.types("activate", *words)
        assert said.code == 2
        assert "needs who answers for it" in said.err
    assert shelf_of(ana).active("scope-1") is None
    said = ana.types("activate", "--override", "--name", "Dr Okafor", "--reason", "only lamp here")
    assert said.code == 0
    assert "Dr Okafor: only lamp here" in said.text
    assert "override: Dr Okafor: only lamp here" in ana.types("history").text


def test_a_reshot_verification_of_the_profile_in_use(ana: Technician) -> None:
    ana.activates()
    assert ana.types("verify", ana.has("chart3")).code == 0
    said = ana.types("verify", ana.has("lamp"), "--json")
    assert said.code == 2
    made = json.loads(said.out)["verification"]
    assert made["verdict"] == "block"
    assert made["after"]["mean"] - made["commissioning"] > 4.0
    said = ana.types("status")
    assert said.code == 4
    assert "did not hold against the chart" in said.text
    assert ana.types("verify", ana.has("chart3")).code == 0
    assert ana.types("status").code == 0


def test_after_a_month_it_is_stale(ana: Technician) -> None:
    ana.activates()
    ana.now = NOW + timedelta(days=27)
    said = ana.types("status")
    assert said.code == 0
    assert "expires on 31 December 2026: plan a calibration" in said.text
    ana.now = NOW + timedelta(days=30)
    assert ana.types("status").code == 4
    assert ana.types("verify", ana.has("chart2")).code == 4
    assert ana.types("activate").code == 4
    said = ana.types("apply", ana.has("chart3"), "--out", ana.folder / "true")
    assert said.code == 4
    assert (ana.folder / "true" / "chart3.png").exists(), "a stale profile still corrects better than none"


def test_rollback(ana: Technician) -> None:
    first = ana.activates().profile_id
    ana.types("fit", ana.has("chart3"))
    ana.types("verify", ana.has("chart2"))
    assert ana.types("activate").code == 0
    said = ana.types("rollback", "--reason", "greens look odd")
    assert said.code == 0
    assert first in said.out
    assert "greens look odd" in ana.types("history").out
    said = ana.types("rollback")
    assert said.code == 2
    assert "no earlier profile" in said.err


def test_status_of_several(ana: Technician) -> None:
    ana.activates()
    path = config(ana.folder, "", "scope-1", "scope-2")
    said = ana.types("status", "--config", path, "--json", at=False)
    assert said.code == 2, "the worst of them"
    states = {row["dermoscope"]: row["state"] for row in json.loads(said.out)["dermoscopes"]}
    assert states == {"scope-1": "valid", "scope-2": "none"}
    assert "never calibrated" in ana.types("status", "--config", path, at=False).out


def test_status_of_an_edited_profile(ana: Technician) -> None:
    ana.activates()
    shelf = shelf_of(ana)
    path = shelf.profile_folder("scope-1", shelf.record("scope-1").profile_ids()[0]) / "profile.json"
    path.write_text(path.read_text().replace("Ana Lopes", "Eve"))
    said = ana.types("status")
    assert said.code == 2
    assert "was changed after it was made" in said.text
    for verb, words in (("activate", []), ("report", []), ("verify", [ana.has("chart3")])):
        said = ana.types(verb, *words)
        assert said.code == 2, verb
        assert "was changed after it was made" in said.err


# Which dermoscope, which settings, which clock


def test_a_dermoscope_that_is_not_here(ana: Technician) -> None:
    path = config(ana.folder, "", "scope-1", "scope-2")
    said = ana.types("fit", ana.has("chart1"), "--config", path, "--dermoscope", "scope-9", "--operator", "A", at=False)
    assert said.code == 2
    assert "no dermoscope 'scope-9'" in said.err
    assert "scope-1, scope-2" in said.err
    said = ana.types("fit", ana.has("chart1"), "--config", path, "--operator", "A", at=False)
    assert said.code == 78
    assert "Say which dermoscope" in said.err
    assert not (ana.state / "calibration").exists()


def test_one_dermoscope_need_not_be_named_and_its_config_is_found(ana: Technician) -> None:
    config(ana.folder, "[calibration]\nmax_age_days = 7\n")
    made = json.loads(ana.types("fit", ana.has("chart1"), "--operator", "A", "--json", at=False).out)["profile"]
    assert made["dermoscope_id"] == "scope-1"
    assert made["expires_at"] == "2026-12-08T09:00:00Z"


def test_another_dermoscopes_profile_is_not_taken(ana: Technician) -> None:
    profile_id = ana.fits().profile_id
    said = ana.types("verify", ana.has("chart2"), "--dermoscope", "scope-2", "--profile", profile_id)
    assert said.code == 2
    assert f"{profile_id} belongs to the dermoscope scope-1" in said.err
    said = ana.types("verify", ana.has("chart2"), "--profile", "cal-1999")
    assert said.code == 2
    assert profile_id in said.err


def test_limits_of_the_settings_decide(ana: Technician) -> None:
    path = config(ana.folder, "[calibration.limits]\nmean = 0.001\nmarginal_mean = 0.002\n")
    assert ana.types("fit", ana.has("chart1"), "--operator", "A", "--config", path, at=False).code == 2
    path = config(ana.folder, "[calibration.limits]\nmean = 0.001\nmarginal_mean = 9.0\n")
    said = ana.types("fit", ana.has("chart1"), "--operator", "A", "--config", path, at=False)
    assert said.code == 0
    assert "MARGINAL" in said.out


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[calibration.limits]\nmen = 3.0\n", "no limit 'men'"),
        ("[calibration.limits]\nmean = 'much'\n", "calibration.limits.mean = 'much'"),
        ("[calibration.limits]\nmean = 9.0\n", "not above those for a marginal"),
        ("[calibration]\nmax_age_days = 0\n", "calibration.max_age_days = 0"),
        ("[calibration]\nmax_age_days = true\n", "calibration.max_age_days = True"),
        ("[calibration]\nlimits = 3\n", "must be a table"),
        ("[[", "not valid TOML"),
    ],
)
def test_wrong_settings_are_exit_78_and_name_the_key(ana: Technician, text: str, why: str) -> None:
    path = config(ana.folder, text)
    said = ana.types("fit", ana.has("chart1"), "--operator", "A", "--config", path, at=False)
    assert said.code == 78
    assert re.search(why, said.err)


def test_no_settings_at_all(ana: Technician, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.commands.settings.PLACES", (Path("agent.toml"),))
    said = ana.types("status", at=False)
    assert said.code == 78
    assert "--config agent.toml" in said.err
    said = ana.types("status", "--config", "nowhere.toml", at=False)
    assert said.code == 78
    assert "nowhere.toml: cannot be read" in said.err


def test_nobody_does_it_anonymously(ana: Technician) -> None:
    said = ana.types("fit", ana.has("chart1"), "--operator", "  ")
    assert said.code == 2
    assert "Say who does this (--operator NAME)" in said.err


@pytest.mark.fault("F16")
def test_in_1970_nothing_with_a_date_is_made(ana: Technician) -> None:
    ana.activates()
    events = shelf_of(ana).record("scope-1").events
    ana.now = datetime(1970, 1, 1, 0, 3, tzinfo=timezone.utc)
    for verb, words in (
        ("flatfield", [ana.has("white0")]),
        ("fit", [ana.has("chart1")]),
        ("verify", [ana.has("chart3")]),
        ("activate", []),
        ("rollback", []),
    ):
        said = ana.types(verb, *words)
        assert said.code == 2, verb
        assert "01 January 1970, which cannot be right" in said.err
        assert "timedatectl" in said.err
    assert shelf_of(ana).record("scope-1").events == events
    said = ana.types("status")
    assert said.code == 0
    assert "set its clock" in said.out


def test_a_shelf_that_may_not_be_written_is_said(ana: Technician) -> None:
    ana.state.mkdir()
    (ana.state / "calibration").write_text("a file where a folder must be")
    said = ana.types("fit", ana.has("chart1"))
    assert said.code == 1
    assert said.err.count("\n") == 1


# apply, export-icc


def test_apply_corrects_copies_and_writes_over_nothing(ana: Technician) -> None:
    ana.activates()
    out = ana.folder / "true"
    said = ana.types("apply", ana.has("chart3"), "--out", out)
    assert said.code == 0
    active = shelf_of(ana).active("scope-1")
    assert active is not None
    with Image.open(out / "chart3.png") as picture:
        assert np.array_equal(np.asarray(picture), active.corrector.full(shot("chart3")))
    said = ana.types("apply", ana.has("chart3"), "--out", out)
    assert said.code == 2
    assert "is not written over" in said.err
    said = ana.types("apply", ana.has("chart3"), "--out", ana.folder)
    assert said.code == 2
    with Image.open(ana.has("chart3")) as picture:
        assert np.array_equal(np.asarray(picture), shot("chart3")), "the original is never touched"


def test_apply_refuses_another_shape(ana: Technician) -> None:
    ana.activates()
    Image.fromarray(shot("chart3")[20:-20]).save(ana.folder / "wide.png")
    said = ana.types("apply", ana.folder / "wide.png", "--out", ana.folder / "true")
    assert said.code == 2
    assert "of another shape than the 512×384" in said.err


def test_apply_and_icc_need_a_profile_in_use(ana: Technician) -> None:
    ana.fits()
    for words in (["apply", ana.has("chart3"), "--out", "o"], ["export-icc", "--out", "o.icc"]):
        said = ana.types(str(words[0]), *words[1:])
        assert said.code == 2
        assert "has no profile in use" in said.err


def test_export_icc_is_read_by_pillow(ana: Technician) -> None:
    ana.activates()
    path = ana.folder / "scope-1.icc"
    said = ana.types("export-icc", "--out", path)
    assert said.code == 0
    assert "no ICC profile can carry a gain map" in said.text
    profile = ImageCms.getOpenProfile(str(path))
    assert "scope-1" in ImageCms.getProfileDescription(profile)


def test_the_guided_visit_is_for_people(ana: Technician) -> None:
    said = ana.types("", "--json")
    assert said.code == 2
    assert "uses the verbs" in said.err
