"""Quality: what is warned of, what is refused, and that real captures pass."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.answer import quality
from agent.answer.quality import dark_ring, measure
from agent.answer.shrink import preview
from agent.intake.reasons import Reason, Rejection

Picture = NDArray[np.uint8]


def read(path: Path) -> Picture:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def with_rim(picture: Picture, radius: float) -> Picture:
    """Black outside a circle; the radius is a share of the height."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    outside = np.hypot(rows - height / 2, columns - width / 2) > radius * height
    darkened = picture.copy()
    darkened[outside] = 3
    return darkened


def test_a_good_picture_has_no_warnings(picture: Picture) -> None:
    found = measure(picture)
    assert found.warnings == ()
    assert (found.width, found.height) == (1024, 768)
    assert found.brightness == pytest.approx(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).mean() / 255, abs=0.01)


@pytest.mark.parametrize("turned", [False, True])
def test_resolution_is_judged_in_either_orientation(picture: Picture, turned: bool) -> None:
    whole = np.ascontiguousarray(picture.transpose(1, 0, 2)) if turned else picture
    cut = np.ascontiguousarray(whole[:, :-1])
    assert not measure(whole).warnings
    assert "Low resolution" in measure(cut).warnings[0]


def test_the_short_side_decides_what_is_too_small(picture: Picture) -> None:
    with pytest.raises(Rejection) as refused:
        measure(np.ascontiguousarray(picture[:199]))
    assert refused.value.reason is Reason.TOO_SMALL
    assert "1024 x 199" in refused.value.sentence
    assert measure(np.ascontiguousarray(picture[284:484])).height == 200


@pytest.mark.parametrize(
    ("height", "width"), [(768, 1024), (1024, 768), (1500, 2000), (3000, 4000), (300, 2000), (2000, 300), (601, 803)]
)
def test_what_was_halved_before_changes_no_figure(height: int, width: int) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rgb = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    assert measure(rgb, None, preview(rgb)) == measure(rgb)


@pytest.mark.parametrize("level", [0, 5, 120, 200, 255])
def test_a_blank_picture_is_refused(level: int) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (768, 1024, 3))
    with pytest.raises(Rejection) as refused:
        measure(np.clip(level + noise, 0, 255).astype(np.uint8))
    assert refused.value.reason is Reason.BLANK


def test_light(picture: Picture) -> None:
    dark = (picture * 0.45).astype(np.uint8)
    bright = np.clip(picture.astype(int) + 110, 0, 254).astype(np.uint8)
    assert any("dark" in warning for warning in measure(dark).warnings)
    assert any("bright" in warning for warning in measure(bright).warnings)


def test_clipping_is_measured_as_the_camera_wrote_it(picture: Picture) -> None:
    clipped = picture.copy()
    clipped[:, ::2, 0] = 255  # every second column: means of neighbours would show none of it
    found = measure(clipped)
    assert found.clipped_share == pytest.approx(0.5, abs=0.02)
    whole = picture.copy()
    whole[:300, :, 0] = 255
    found = measure(whole)
    assert found.clipped_share == pytest.approx(300 / 768, abs=0.02)
    assert any("underexposed" in warning for warning in found.warnings)


def test_a_blurred_picture_is_warned_of(picture: Picture) -> None:
    blurred = cv2.GaussianBlur(picture, (0, 0), 6).astype(np.uint8)
    assert measure(blurred).sharpness < quality.BLURRED < measure(picture).sharpness
    assert any("blurred" in warning for warning in measure(blurred).warnings)


def test_sharpness_does_not_depend_on_the_cameras_pixels(picture: Picture) -> None:
    large = cv2.resize(picture, (4096, 3072), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    assert measure(large).sharpness == pytest.approx(measure(picture).sharpness, rel=0.1)


def test_the_rim_is_normal_until_it_leaves_too_little(picture: Picture) -> None:
    whole_circle = measure(with_rim(picture, 0.5))
    assert whole_circle.dark_ring_share == pytest.approx(1 - np.pi / 4 * 0.75, abs=0.01)
    assert whole_circle.warnings == ()
    assert whole_circle.brightness == pytest.approx(measure(picture).brightness, abs=0.05)
    peephole = measure(with_rim(picture, 0.3))
    assert any("dark rim" in warning for warning in peephole.warnings)


def test_a_black_lesion_is_no_rim() -> None:
    luma = np.full((200, 300), 150, np.uint8)
    luma[80:120, 100:200] = 0
    assert not dark_ring(luma).any()
    luma[:, :20] = 0
    ring = dark_ring(luma)
    assert ring[:, :20].all()
    assert ring.sum() == 200 * 20


def test_real_captures_pass(shared_data: Path) -> None:
    for path in sorted((shared_data / "isic_fullsize").glob("*.jpg")):
        found = measure(read(path))
        assert len(found.warnings) <= 1, path
        assert all("Low resolution" in warning for warning in found.warnings), path


@pytest.mark.parametrize("places", ["isic2017/val/*.jpg", "isic2017/train/*.jpg", "ham10000/images/*.jpg"])
def test_real_images_are_answered_with_few_false_alarms(shared_data: Path, places: str) -> None:
    paths = sorted(shared_data.glob(places))
    paths = paths[:: max(1, len(paths) // 150)]
    assert len(paths) >= 150
    counts: dict[str, int] = {"Low": 0, "blurred": 0, "dark;": 0, "bright": 0, "exposed": 0, "rim": 0}
    for path in paths:
        text = " ".join(measure(read(path)).warnings)  # a rejection fails the test
        for word in counts:
            counts[word] += word in text
    assert counts.pop("Low") == len(paths)
    for word, count in counts.items():
        assert count <= 0.03 * len(paths), (word, count)
