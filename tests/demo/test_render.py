import numpy as np
import pytest

from agent.demo.optics import draw_on_top
from agent.demo.render import TISSUE_SIDE, render_lesion
from agent.demo.traits import LOOKS, traits_of

WIDTH, HEIGHT = 320, 240


def test_a_seed_gives_the_same_picture_again():
    assert np.array_equal(render_lesion(7, WIDTH, HEIGHT), render_lesion(7, WIDTH, HEIGHT))


def test_seeds_differ():
    pictures = [render_lesion(seed, WIDTH, HEIGHT).astype(int) for seed in range(4)]
    for first in range(4):
        for second in range(first):
            assert np.abs(pictures[first] - pictures[second]).mean() > 5


@pytest.mark.parametrize(("width", "height"), [(64, 64), (333, 217), (217, 333), (1024, 768)])
def test_shape_and_type(width, height):
    picture = render_lesion(3, width, height)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


def test_strips_and_noise_sheets_meet_without_a_seam():
    """Above TISSUE_SIDE the rows are enlarged strip by strip, and noise is laid in sheets of 512."""
    width = TISSUE_SIDE + 200
    picture = render_lesion(9, width, width * 3 // 4).astype(int)
    steps = np.abs(np.diff(picture[:, :, 1], axis=0)).mean(axis=1)
    seams = steps[255::256]
    assert seams.max() < 1.5 * np.median(steps)


def test_every_look_has_a_lesion_in_the_middle():
    """Darker or redder than the skin around it, whatever it resembles."""
    seen = {}
    for seed in range(200):
        traits = traits_of(seed)
        if traits.rim is None and traits.skin_type in {"I", "II"}:
            seen.setdefault(traits.look, seed)
    assert set(seen) == set(LOOKS)
    for look, seed in seen.items():
        green = render_lesion(seed, WIDTH, HEIGHT)[..., 1].astype(float)
        middle = green[HEIGHT // 2 - 20 : HEIGHT // 2 + 20, WIDTH // 2 - 20 : WIDTH // 2 + 20]
        assert middle.mean() < np.median(green) - 20, look


def test_the_rim_is_black():
    seed = next(seed for seed in range(200) if (traits_of(seed).rim or 1) < 0.6)
    assert render_lesion(seed, WIDTH, HEIGHT)[:20, :20].mean() < 15


@pytest.mark.parametrize("seed", range(3))
def test_the_picture_says_synthetic(seed):
    """Where the caption's letters are drawn, the picture is nearly white."""
    picture = render_lesion(seed, 1024, 768)
    caption = draw_on_top(np.random.default_rng(0), traits_of(seed), 768, 1024).caption
    letters = caption > 200
    assert letters.sum() > 200
    assert picture[letters].mean() > 210


def test_the_caption_lies_outside_the_analysed_square():
    caption = draw_on_top(np.random.default_rng(0), traits_of(1), 768, 1024).caption
    assert not caption[:, 128:896].any()


@pytest.mark.parametrize("arguments", [(-1, 640, 480), (1, 63, 480), (1, 640, 10)])
def test_impossible_wishes_are_refused(arguments):
    with pytest.raises(ValueError, match=r"negative|at least 64"):
        render_lesion(*arguments)
