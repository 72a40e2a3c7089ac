"""The fast paths against the one in full precision."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from calibration.colour import delta_e_2000, srgb_to_lab
from calibration.correction.apply import Corrector, reference_apply
from calibration.correction.colour_model import ColourModel, Tone
from calibration.correction.flatfield import GainMap, GainMapMismatch, centres

MATRIX = np.array([[1.62, -0.22, -0.03], [-0.31, 1.48, -0.36], [0.02, -0.28, 1.71]])
ROOTS = np.array([[0.11, -0.06, 0.02], [-0.09, 0.08, -0.12], [0.03, -0.07, 0.05]])
RAISING, LOWERING = Tone(1.3, 0.4, 0.5, 0.02), Tone(0.8, 1.2, -0.4, 0.01)
MODELS = {
    "matrix": ColourModel("matrix", MATRIX),
    "dim matrix": ColourModel("matrix", 0.3 * MATRIX),
    "tone": ColourModel("matrix", MATRIX, RAISING),
    "lowering tone": ColourModel("matrix", MATRIX, LOWERING),
    "flat tone": ColourModel("matrix", MATRIX, Tone(1.1, 0.9, 0.0, 0.01)),
    "root polynomial": ColourModel("root_polynomial_2", np.vstack([MATRIX, ROOTS])),
    "root polynomial with tone": ColourModel("root_polynomial_2", np.vstack([MATRIX, ROOTS]), RAISING),
}


def vignette(height: int, width: int, cells: tuple[int, int] = (36, 48)) -> GainMap:
    down, across = (centres(side) - 0.5 for side in cells)
    radius = down[:, None] ** 2 + across[None] ** 2
    return GainMap(
        np.stack([0.9 + share * radius for share in (1.6, 1.4, 1.2)], axis=-1).astype(np.float32), (height, width)
    )


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth colours of skin with a lesion, every level somewhere, and noise."""
    rng = np.random.default_rng(11)
    down, across = np.mgrid[-1:1:300j, -1:1:400j]
    lesion = np.exp(-3.0 * (down**2 + across**2))[..., None]
    skin = np.array([205.0, 160.0, 140.0]) * (1.1 - 0.3 * across[..., None]) - lesion * [110.0, 110.0, 100.0]
    patch = np.arange(256)[:, None] * np.ones((256, 20))
    skin[20:276, 10:30] = patch[..., None]
    skin[20:276, 40:60] = patch[..., None] * [1.0, 0.5, 0.1]
    return np.clip(skin + rng.normal(0, 3, skin.shape), 0, 255).astype(np.uint8)


def off(corrected: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return delta_e_2000(srgb_to_lab(corrected), srgb_to_lab(reference))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("with_gain", [False, True])
def test_full_size_is_exact_to_the_last_bit(picture, name, with_gain):
    gain = vignette(*picture.shape[:2]) if with_gain else None
    corrector = Corrector(MODELS[name], gain)
    before = picture.copy()
    corrected = corrector.full(picture)
    exact = reference_apply(MODELS[name], picture, gain)
    assert corrected.dtype == np.uint8
    assert corrected.shape == picture.shape
    assert np.abs(corrected - exact * 255.0).max() < 0.75  # half a level is the rounding to a byte
    assert off(corrected, exact).mean() < 0.5
    np.testing.assert_array_equal(picture, before)
    assert off(picture, exact).mean() > 3.0  # there was something to do


@pytest.mark.parametrize("name", MODELS)
def test_small_is_exact_for_its_part_of_the_picture(picture, name):
    gain = vignette(*picture.shape[:2])
    region = (0.1, 0.2, 0.6, 0.5)
    part = np.ascontiguousarray(picture[30:210, 80:280])
    corrected = Corrector(MODELS[name], gain).small(part, region)
    exact = reference_apply(MODELS[name], picture, gain)[30:210, 80:280]
    assert np.abs(corrected - exact * 255.0).max() < 0.75


@pytest.mark.parametrize("name", ["matrix", "tone", "root polynomial"])
def test_correcting_after_shrinking_is_close_to_correcting_before(shared_data, name):
    for path in sorted((shared_data / "isic_fullsize").glob("*.jp*g")):
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"))
        height, width = rgb.shape[:2]
        gain = vignette(height, width)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = (slice(top, top + side), slice(left, left + side))
        size, how = (224, 224), cv2.INTER_AREA
        before = cv2.resize(
            np.ascontiguousarray(reference_apply(MODELS[name], rgb, gain)[square]), size, interpolation=how
        )
        small = cv2.resize(rgb[square], size, interpolation=how)
        region = (top / height, left / width, side / height, side / width)
        after = Corrector(MODELS[name], gain).small(small, region)
        assert off(after, np.clip(before, 0, 1)).mean() < 0.5


def test_the_region_matters(picture):
    corrector = Corrector(MODELS["matrix"], vignette(*picture.shape[:2]))
    small = np.ascontiguousarray(picture[:64, :64])
    assert (corrector.small(small, (0.0, 0.0, 0.2, 0.2)) != corrector.small(small, (0.4, 0.4, 0.2, 0.2))).any()
    for number in range(20):  # more than are remembered
        corrector.small(small, (0.0, 0.0, 0.2, 0.5 + number / 100))
    np.testing.assert_array_equal(
        corrector.small(small, (0.0, 0.0, 0.2, 0.2)), corrector.small(small, (0.0, 0.0, 0.2, 0.2))
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (17, 513), (49, 512), (97, 1025)])
@pytest.mark.parametrize("with_gain", [False, True])
def test_every_size_works(shape, with_gain):
    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    gain = vignette(*shape) if with_gain else None
    for model in MODELS.values():
        exact = reference_apply(model, rgb, gain)
        corrector = Corrector(model, gain)
        for corrected in (corrector.full(rgb), corrector.small(rgb)):
            assert np.abs(corrected - exact * 255.0).max() < 0.8


def test_views_of_pictures_work(picture):
    corrector = Corrector(MODELS["tone"])
    for view in (picture[::-1, ::2], picture[:, :, ::-1], picture.transpose(1, 0, 2), picture[5:50, 7:90]):
        np.testing.assert_array_equal(corrector.full(view), corrector.full(np.ascontiguousarray(view)))
        np.testing.assert_array_equal(corrector.small(view), corrector.full(view))


def test_several_threads_may_use_one_corrector(picture):
    shared = Corrector(MODELS["tone"], vignette(*picture.shape[:2]))
    alone = shared.full(picture)
    results: list[np.ndarray] = []
    callers = [threading.Thread(target=lambda: results.append(shared.full(picture))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert all((result == alone).all() for result in results)


def test_out_of_gamut_is_clipped_not_wrapped():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    for model in MODELS.values():
        corrected = Corrector(model).full(red)
        np.testing.assert_array_equal(corrected, np.rint(reference_apply(model, red) * 255.0))
        assert corrected[0, 0, 0] > corrected[0, 0, 1]
    white = np.full((8, 8, 3), 255, np.uint8)
    assert (Corrector(ColourModel("matrix", 3.0 * np.eye(3))).full(white) == 255).all()
    assert (Corrector(ColourModel("matrix", -np.eye(3))).full(white) == 0).all()


def test_the_identity_changes_nothing(picture):
    np.testing.assert_array_equal(Corrector(ColourModel("matrix", np.eye(3))).full(picture), picture)


def test_a_gain_map_of_another_shape_is_refused(picture):
    corrector = Corrector(MODELS["matrix"], vignette(1080, 1920))
    assert not corrector.fits(*picture.shape[:2])
    assert corrector.fits(540, 960)
    with pytest.raises(GainMapMismatch, match="set the camera as it was then"):
        corrector.full(picture)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(wrong):
    corrector = Corrector(MODELS["matrix"])
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        corrector.full(wrong)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        corrector.small(wrong)
