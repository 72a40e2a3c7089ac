"""A technician's whole visit: with the photographs, through a dermoscope, guided, and beside a running agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.chart import detect_chart
from calibration.colour import srgb_to_lab
from calibration.correction.figures import measure
from calibration.references import COLORCHECKER24
from calibration.shelf.files import ShelfError
from calibration.shelf.reading import Shelf
from calibration.shelf.standing import State
from calibration.visit.look import Look, Order, find
from calibration.visit.pictures import read_picture
from calibration.visit.steps import make_flat_field
from tests.calibration.visiting import CAMERA, NOW, OTHER_LAMP, SIZE, Technician, file_of, fitted, variant, verified
from tests.fakes.charts import render_chart, white_frame

GOOD = ("colourscience_classic.png", "plantcv_colorchecker-classic-mini.jpg", "plantcv_nano.jpeg")
OVEREXPOSED = ("plantcv_classic.png", "plantcv_calibrite-passport.png")
"""Photographs with patches at the camera's white: fitted well, and refused all the same."""


@pytest.fixture
def ana(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Technician:
    monkeypatch.chdir(tmp_path)
    return Technician(tmp_path, capsys, monkeypatch)


def shelf_of(technician: Technician) -> Shelf:
    return Shelf(technician.state / "calibration")


def second_shot(path: Path, folder: Path, *, gains: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Path:
    """The photograph taken again: lower by a few pixels, a little darker, with other noise, in another lamp."""
    rgb = read_picture(path).rgb.astype(np.float64)  # as the agent sees it: one photograph has a profile of its own
    noise = np.random.default_rng(3).normal(0.0, 1.0, rgb.shape)
    again = np.clip(rgb * 0.985 * np.array(gains) + noise, 0, 255).astype(np.uint8)
    target = folder / f"again-{path.stem}.png"
    Image.fromarray(np.ascontiguousarray(again[3:])).save(target, compress_level=1)
    return target


@pytest.mark.parametrize("name", GOOD)
def test_the_whole_visit_with_a_photograph(ana: Technician, shared_data: Path, name: str) -> None:
    photograph = shared_data / "colorchecker" / name
    assert ana.types("detect", photograph, at=False).code == 0
    made = json.loads(ana.types("fit", photograph, "--json", "--target-serial", "4711").out)["profile"]
    assert made["outcome"] == "pass"
    assert made["leave_one_out"]["mean"] < 3.0
    assert made["leave_one_out"]["mean"] < made["before"]["mean"]
    said = ana.types("verify", second_shot(photograph, ana.folder), "--json")
    assert said.code == 0, said.out
    assert ana.types("activate").code == 0
    assert ana.types("report", "--out", ana.folder / "report.html").code == 0
    assert "PASS" in (ana.folder / "report.html").read_text()

    active = shelf_of(ana).active("scope-1")
    assert active is not None
    assert active.state(NOW) is State.VALID
    corrected = active.corrector.full(read_picture(photograph).rgb)
    patches = detect_chart(corrected).patches
    assert measure(srgb_to_lab(patches.rgb), COLORCHECKER24).mean < min(4.0, made["before"]["mean"])


@pytest.mark.parametrize("name", OVEREXPOSED)
def test_an_overexposed_photograph_is_measured_and_refused(ana: Technician, shared_data: Path, name: str) -> None:
    said = ana.types("fit", shared_data / "colorchecker" / name, "--json")
    assert said.code == 2
    made = json.loads(said.out)["profile"]
    assert made["leave_one_out"]["mean"] < 3.0
    assert [reason for reason in made["reasons"] if reason.startswith("Over-exposed")]
    assert ana.types("activate").code == 2


def test_a_card_with_covered_patches_is_refused(ana: Technician, shared_data: Path) -> None:
    for verb in ("detect", "fit"):
        said = ana.types(verb, shared_data / "colorchecker" / "plantcv_partial_card_rgb.png", at=verb == "fit")
        assert said.code == 3
        assert "uncover" in said.err


def test_a_photograph_in_another_lamp_is_blocked(ana: Technician, shared_data: Path) -> None:
    photograph = shared_data / "colorchecker" / "plantcv_nano.jpeg"
    assert ana.types("fit", photograph).code == 0
    said = ana.types("verify", second_shot(photograph, ana.folder, gains=(1.0, 0.8, 0.55)), "--json")
    assert said.code == 2
    assert json.loads(said.out)["verification"]["after"]["mean"] > 8.0
    assert ana.types("activate").code == 2


def test_a_dermoscopic_picture_is_no_chart(ana: Technician, shared_data: Path) -> None:
    picture = min((shared_data / "isic_fullsize").glob("*.jpg"))
    said = ana.types("fit", picture)
    assert said.code == 3
    assert said.err.count("\n") == 1


def tiles(technician: Technician) -> list[Path]:
    return [technician.has(f"tile{number}") for number in range(6)]


def test_through_a_dermoscope_with_its_small_field(ana: Technician) -> None:
    assert ana.types("flatfield", ana.has("white0"), ana.has("white1")).code == 0
    said = ana.types("fit", *tiles(ana), "--json")
    assert said.code == 0, said.out + said.err
    made = json.loads(said.out)["profile"]
    assert made["chart"]["kind"] == "tiles"
    assert made["leave_one_out"]["mean"] < 1.0
    assert len(made["evidence"]) == 6
    said = ana.types("fit", *tiles(ana)[:2])
    assert said.code == 3
    assert "No shot shows" in said.err
    said = ana.types("fit", tiles(ana)[0], "--kind", "tile")
    assert said.code == 3
    assert "of the chart's 24 patches" in said.err


def test_a_running_agent_uses_the_profile_on_its_next_capture(ana: Technician) -> None:
    """The commands in a process of their own, the shelf open here as the agent has it."""
    agent = shelf_of(ana)
    assert agent.active("scope-1") is None
    ana.activates()
    before = agent.active("scope-1")
    assert before is not None
    words = ["--state-dir", str(ana.state), "--dermoscope", "scope-1", "--operator", "Ana"]
    script = (
        "import argparse, sys; from calibration.commands import register;"
        "p = argparse.ArgumentParser(); register(p.add_subparsers(required=True));"
        "a = p.parse_args(sys.argv[1:]); sys.exit(a.run(a))"
    )

    def typed(verb: str, *more: str) -> int:
        command = [sys.executable, "-c", script, "calibrate", verb, *words, *more]
        return subprocess.run(command, check=False, capture_output=True, timeout=25).returncode

    assert typed("fit", "--no-flatfield", str(ana.has("chart3"))) == 0
    assert agent.active("scope-1") is not None
    assert typed("verify", str(ana.has("chart2"))) == 0
    assert typed("activate") == 0
    assert agent.changed("scope-1")
    after = agent.active("scope-1")
    assert after is not None
    assert after.profile.profile_id != before.profile.profile_id
    assert after.profile.flat_field is None
    assert typed("rollback") in {0, 4}
    again = agent.active("scope-1")
    assert again is not None
    assert again.profile == before.profile


# The guided visit


class Script:
    """What the technician answers, one line after the other."""

    def __init__(self, *answers: str | Path) -> None:
        self._left: Iterator[str] = iter([str(answer) for answer in answers])

    def __call__(self, _prompt: str = "") -> str:
        try:
            return next(self._left)
        except StopIteration:
            raise EOFError from None

    def left(self) -> list[str]:
        return list(self._left)


def led(ana: Technician, monkeypatch: pytest.MonkeyPatch, *answers: str | Path) -> tuple[int, str, list[str]]:
    script = Script(*answers)
    monkeypatch.setattr("builtins.input", script)
    said = ana.types("", "--state-dir", ana.state, at=False)
    return said.code, said.text, script.left()


def test_the_guided_visit(ana: Technician, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, left = led(
        ana,
        monkeypatch,
        "scope-1",
        "Ana Lopes",
        "4711",
        "",
        f"{ana.has('white0')} {ana.has('white1')}",
        ana.has("skin"),  # the wrong picture first
        "",
        ana.has("chart1"),
        ana.has("chart1"),  # the same again as the second shot
        ana.has("lamp"),
        ana.has("chart2"),
        "yes",
    )
    assert left == []
    assert code == 0, text
    for told in ("1 of 5", "5 of 5", "No chart found", "the very shot", "BLOCKED", "is in use until 31 December 2026"):
        assert told in text, told
    profile = shelf_of(ana).active("scope-1")
    assert profile is not None
    assert profile.profile.chart.target_serial == "4711"
    assert profile.profile.flat_field is not None
    reports = list(ana.folder.glob("calibration-scope-1-*.html"))
    assert len(reports) == 1
    assert "In use since" in reports[0].read_text()


def test_the_guided_visit_takes_the_newest_pictures_of_the_folder(
    ana: Technician, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ana.folder / "scope-1"
    folder.mkdir()
    (ana.folder / "agent.toml").write_text(
        '[device]\nstate_dir = "state"\n[[dermoscope]]\nid = "scope-1"\nfolder = "scope-1"\n'
    )
    file_of(folder, "chart1")
    script = Script("none", "0", "7", "1", "q")
    monkeypatch.setattr("builtins.input", script)
    said = ana.types("", "--operator", "Ana", "--target-serial", "1", "--illuminant", "LED", at=False)
    assert said.code == 2, "stopped before the second shot"
    assert "holds 1 pictures" in said.text
    assert "Stopped. What was measured is kept" in said.text
    assert len(shelf_of(ana).record("scope-1").profile_ids()) == 1
    assert shelf_of(ana).active("scope-1") is None


def test_the_guided_visit_ends_where_nobody_answers(ana: Technician, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = led(ana, monkeypatch)
    assert code == 2
    assert "Stopped" in text


# What a shelf of another device or another dermoscope gives


def test_a_shelf_copied_to_another_dermoscope_is_refused(ana: Technician) -> None:
    ana.activates()
    (ana.state / "calibration" / "scope-1").rename(ana.state / "calibration" / "scope-2")
    with pytest.raises(ShelfError, match="record of the dermoscope scope-1"):
        shelf_of(ana).active("scope-2")
    said = ana.types("activate", "--dermoscope", "scope-2")
    assert said.code == 2
    assert "copied here" in said.err


def test_the_documents_say_what_was_measured() -> None:
    profile, files = fitted()
    assert set(files) == {"gain.npy", "chart-1.jpg"}
    assert profile.outcome == "pass"
    assert profile.leave_one_out.mean < 1.0 < profile.before.mean
    assert [patch.name for patch in profile.patches] == list(COLORCHECKER24.patch_names)
    mean = np.mean([patch.after for patch in profile.patches])
    assert mean == pytest.approx(profile.in_sample.mean, abs=1e-3)
    assert verified()[0].verdict == "pass"
    assert verified()[0].rise is None
    assert variant().profile_id == profile.profile_id


def test_the_other_lamp_differs_enough_to_prove_something() -> None:
    assert (render_chart(camera=OTHER_LAMP).rgb != render_chart().rgb).any()


def test_the_flat_field_evens_the_patches_without_cutting_the_white(tmp_path: Path) -> None:
    bright = replace(CAMERA, exposure=1.0, vignette=0.4)
    truth = render_chart(camera=bright, size=SIZE, fill=0.9, seed=1)
    frame = white_frame(camera=replace(bright, exposure=0.9), size=SIZE, seed=2)
    for name, rgb in (("chart", truth.rgb), ("white", frame)):
        Image.fromarray(rgb).save(tmp_path / f"{name}.png", compress_level=1)
    chart = read_picture(tmp_path / "chart.png")
    _, gain = make_flat_field([read_picture(tmp_path / "white.png")], NOW)
    raw, even = find([chart], Order()), find([chart], Order(), gain)

    def spread(look: Look) -> float:
        ratio = (look.patches.linear / truth.linear)[:, 1]
        return float(ratio.std() / ratio.mean())

    assert spread(raw) > 0.05
    assert spread(even) < 0.015
    assert not even.patches.clipped.any(), "what the gain lifts above white is not what the camera cut"
    assert np.array_equal(even.raw, raw.raw), "before the profile is as the camera gave it"
