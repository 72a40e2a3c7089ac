"""The watch without a chart: steady colours stay quiet, a lamp that ages does not."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calibration.colour import linear_to_srgb
from calibration.drift import LIMIT, WINDOW, Observation, State, Watch, observe

SKIN = np.array([0.52, 0.30, 0.22])
"""Linear light."""


def capture(rng: np.random.Generator, lamp: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """A patient: skin of some lightness, a dark lesion in the middle, black corners, noise."""
    down, across = np.mgrid[-1:1:60j, -1:1:80j]
    radius = np.hypot(down * 0.75, across)
    tone = SKIN * rng.uniform(0.7, 1.2) * (1 + rng.normal(0, 0.04, 3))
    lesion = (radius < rng.uniform(0.2, 0.5))[..., None]
    linear = np.where(lesion, tone * [0.3, 0.2, 0.2], tone) * lamp
    linear[radius > 1.1] = 0.0
    noisy = linear_to_srgb(np.clip(linear, 0, 1)) * 255 + rng.normal(0, 2, linear.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def captures(count: int, seed: int, lamp: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> list[Observation]:
    rng = np.random.default_rng(seed)
    seen = [observe(capture(rng, lamp)) for _ in range(count)]
    assert None not in seen
    return [one for one in seen if one is not None]


@pytest.fixture(scope="module")
def commissioned() -> Watch:
    watch = Watch("profile-1")
    for one in captures(WINDOW, 1):
        watch = watch.after(one)
    return watch


def test_nothing_is_said_before_both_windows_are_full(commissioned):
    assert commissioned.state is State.COMMISSIONING
    assert commissioned.shift() is None
    watch = commissioned
    for one in captures(WINDOW - 1, 2, (1.5, 1.0, 0.5)):
        watch = watch.after(one)
    assert watch.state is State.COMMISSIONING


def test_steady_colours_stay_steady(commissioned):
    watch = commissioned
    for one in captures(3 * WINDOW, 3):
        watch = watch.after(one)
        assert watch.state is not State.DRIFTED
    assert watch.state is State.STEADY
    assert len(watch.latest) == WINDOW


@pytest.mark.parametrize("lamp", [(1.12, 1.0, 0.88), (0.88, 1.0, 1.12), (0.7, 0.7, 0.7)])
def test_a_lamp_that_changed_is_seen_and_so_is_its_repair(commissioned, lamp):
    watch = commissioned
    for one in captures(WINDOW, 4, lamp):
        watch = watch.after(one)
    shift = watch.shift()
    assert watch.state is State.DRIFTED
    assert shift is not None
    assert shift.beyond
    assert max(shift.light, shift.skin) >= LIMIT
    assert "verify with the chart" in shift.sentence
    states = []
    for one in captures(WINDOW, 5):
        watch = watch.after(one)
        states.append(watch.state)
    assert states[0] is State.DRIFTED
    assert states[-1] is State.STEADY
    assert len([1 for before, now in itertools.pairwise(states) if before is not now]) == 1  # no flicker


def test_brightness_alone_is_not_the_lights_colour(commissioned):
    watch = commissioned
    for one in captures(WINDOW, 6, (0.7, 0.7, 0.7)):
        watch = watch.after(one)
    shift = watch.shift()
    assert shift is not None
    assert shift.light < 1.0 < LIMIT < shift.skin


def test_many_kinds_of_skin_raise_the_limit(commissioned):
    rng = np.random.default_rng(0)
    mixed = tuple(
        replace(one, skin=tuple(np.array(one.skin) + rng.normal(0, 15, 3))) for one in commissioned.commissioning
    )
    shift = replace(commissioned, commissioning=mixed, latest=mixed).shift()
    assert shift is not None
    assert shift.skin_limit > LIMIT
    assert not shift.beyond


def test_another_profile_begins_a_new_watch(commissioned):
    assert commissioned.of_profile("profile-1") is commissioned
    assert commissioned.of_profile("profile-2") == Watch("profile-2")


def test_a_watch_survives_json(commissioned):
    watch = commissioned.after(captures(1, 7)[0])
    again = Watch.from_plain(json.loads(json.dumps(watch.as_plain())))
    assert again == watch


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"profile_id": None, "state": "steady", "commissioning": 3, "latest": []},
        {"profile_id": None, "state": "well", "commissioning": [], "latest": []},
        {"profile_id": 7, "state": "steady", "commissioning": [], "latest": []},
        {"profile_id": None, "state": "steady", "commissioning": [[1, 2, 3]], "latest": []},
        {"profile_id": None, "state": "steady", "commissioning": [[float("nan")] * 6], "latest": []},
        {"profile_id": None, "state": "steady", "commissioning": [], "latest": [[1.0] * 6] * (WINDOW + 1)},
    ],
)
def test_a_damaged_watch_is_refused(plain):
    with pytest.raises(ValueError, match="no watch"):
        Watch.from_plain(plain)


def test_black_and_white_pictures_say_nothing():
    assert observe(np.zeros((60, 80, 3), np.uint8)) is None
    assert observe(np.full((60, 80, 3), 255, np.uint8)) is None


def test_grey_in_neutral_light_is_neutral():
    seen = observe(np.full((300, 400, 3), 150, np.uint8))
    assert seen is not None
    np.testing.assert_allclose(seen.light[1:], 0.0, atol=1e-3)
    np.testing.assert_allclose(seen.skin[1:], 0.0, atol=1e-3)
    warm = observe(np.full((300, 400, 3), (170, 150, 120), np.uint8))
    assert warm is not None
    assert warm.light[2] > 10.0


def test_real_captures_can_be_looked_at(shared_data):
    paths = sorted((shared_data / "ham10000").rglob("*.jpg"))[:60]
    assert paths
    seen = 0
    for path in paths:
        with Image.open(path) as image:
            seen += observe(np.asarray(image.convert("RGB"))) is not None
    assert seen >= 57
