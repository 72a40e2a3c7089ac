"""White frames to gain maps, and every frame that must be refused."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.colour import linear_to_srgb, srgb_to_linear
from calibration.correction.flatfield import (
    LEAST_GAIN,
    MOST_GAIN,
    FlatFieldRefused,
    GainMap,
    GainMapMismatch,
    centres,
    gain_map,
)

HEIGHT, WIDTH = 192, 256


def light(fall: float = 0.4, colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Linear light of a lamp in the middle; it falls with the square of the radius, red a little faster."""
    down, across = centres(HEIGHT) - 0.5, centres(WIDTH) - 0.5
    radius = 2.0 * (down[:, None] ** 2 + across[None] ** 2)
    return np.stack([1.0 - fall * share * radius for share in (1.1, 1.0, 0.9)], axis=-1) * 0.55 * np.array(colour)


def frame(linear: np.ndarray, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    levels = linear_to_srgb(np.clip(linear, 0, 1)) * 255 + noise * np.random.default_rng(seed).normal(size=linear.shape)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def test_white_frames_become_even_and_the_middle_stays():
    gain = gain_map([frame(light(), seed=seed) for seed in range(3)])
    assert gain.size == (HEIGHT, WIDTH)
    assert gain.gain.dtype == np.float32
    assert max(gain.gain.shape[:2]) <= 64
    other = srgb_to_linear(frame(light(), seed=9) / 255.0)
    even = other * gain.at(centres(HEIGHT), centres(WIDTH))
    inner = even[8:-8, 8:-8]
    middle = even[HEIGHT // 2 - 8 : HEIGHT // 2 + 8, WIDTH // 2 - 8 : WIDTH // 2 + 8].mean(axis=(0, 1))
    blocks = inner.reshape(11, 16, 15, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(blocks, np.broadcast_to(middle, blocks.shape), rtol=0.025)
    np.testing.assert_allclose(middle, 0.55, rtol=0.03)  # nothing changes there
    assert (other[8:24, 8:24].mean() / middle.mean()) < 0.75  # it was uneven before


def test_dust_on_one_of_three_frames_is_not_in_the_map():
    clean = [light() for _ in range(3)]
    dusty = [linear.copy() for linear in clean]
    dusty[1][40:60, 40:60] *= 0.5
    first, second = (gain_map([frame(linear, 0.0) for linear in each]).gain for each in (clean, dusty))
    np.testing.assert_allclose(second, first, rtol=1e-3)


def test_gains_are_clamped_and_black_outside_the_field_is_not_raised_beyond():
    linear = light(0.2)
    down, across = centres(HEIGHT) - 0.5, centres(WIDTH) - 0.5
    outside = np.hypot(down[:, None] * HEIGHT, across[None] * WIDTH) > 0.49 * HEIGHT
    linear[outside] = 0.002
    gain = gain_map([frame(linear)])
    assert gain.gain.min() >= LEAST_GAIN
    assert gain.gain.max() <= MOST_GAIN
    # Where nothing is seen the gain goes on as at the field's edge.
    assert gain.gain[0, 0].max() < 1.35


def refused(told: str, *frames: np.ndarray) -> None:
    with pytest.raises(FlatFieldRefused, match=told):
        gain_map(frames)


def test_frames_that_cannot_be_used_are_refused():
    refused("no white frame")
    refused("differ in size", frame(light()), frame(light())[:100])
    refused("over-exposed in", frame(light() * 2.0))
    refused("too dark", frame(light() * 0.1))
    refused("not white but coloured", frame(light(colour=(1.0, 0.8, 0.4))))
    one_sided = 0.6 * np.exp(-2.2 * centres(WIDTH))[None, :, None] * np.ones((HEIGHT, 1, 3))
    refused("too uneven to be corrected in 3", frame(one_sided))
    texture = np.kron(np.random.default_rng(0).uniform(0.6, 1.0, (12, 16, 1)), np.ones((16, 16, 3)))
    refused("more than plain white paper", frame(light() * texture))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_dermoscopic_picture_is_no_white_frame(shared_data, index):
    from PIL import Image

    path = sorted((shared_data / "isic_fullsize").glob("*.jp*g"))[index]
    with Image.open(path) as image, pytest.raises(FlatFieldRefused):
        gain_map([np.asarray(image.convert("RGB"))])


def test_gains_between_the_cells_are_straight_lines():
    gain = np.array([[1.0, 1.2, 1.4], [1.2, 1.4, 1.6]], np.float32)
    whole = GainMap(gain, (20, 30))
    assert whole.gain.shape == (2, 3, 3)  # one map for all channels
    np.testing.assert_allclose(whole.at([0.25, 0.5, 0.75], [0.5])[:, 0, 1], [1.2, 1.3, 1.4], rtol=1e-6)
    np.testing.assert_allclose(whole.at([0.25], [0.0, 1 / 3, 1.0])[0, :, 0], [1.0, 1.1, 1.4], rtol=1e-6)
    single = GainMap(np.full((1, 1), 1.5, np.float32), (20, 30))
    np.testing.assert_allclose(single.at(centres(5), centres(7)), 1.5)


def test_a_map_knows_what_pictures_it_is_for():
    gain = GainMap(np.ones((3, 4, 3), np.float32), (3000, 4000))
    assert gain.fits(1500, 2000)
    assert gain.fits(768, 1024)
    gain.check(1500, 2000)
    with pytest.raises(GainMapMismatch, match="picture is 1280×720 and the flat field was taken at 4000×3000"):
        gain.check(720, 1280)


@pytest.mark.parametrize(
    "gain",
    [np.ones((3, 4, 2)), np.full((3, 4, 3), np.nan), np.full((3, 4, 3), 3.0), np.full((3, 4), 0.1), np.ones((0, 4))],
)
def test_what_is_no_gain_map_is_refused(gain):
    with pytest.raises(ValueError, match="gain map"):
        GainMap(gain.astype(np.float32), (30, 40))
