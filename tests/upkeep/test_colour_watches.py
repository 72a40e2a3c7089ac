"""Each dermoscope's colours between two calibrations: steady is silent, drifted is said once and in every answer."""

from __future__ import annotations

import itertools
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.records.store import Store
from agent.upkeep.colour_watches import KEEP_EVERY, SPACING_S, ColourWatches
from calibration.drift import WINDOW

TURNED = (1.0, 0.9, 0.7)
"""What a yellowed lamp or a changed white balance does to the channels."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path, "device-1", 256, clinic_id="clinic-1", software_version="9.9")
    yield opened
    opened.close()


def capture(seed: int, cast: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> NDArray[np.uint8]:
    """A lesion on someone's skin, small: another person each time."""
    rng = np.random.default_rng(seed)
    skin = np.array([200.0, 155.0, 135.0]) + rng.normal(0, 6, 3)
    rgb = np.broadcast_to(skin, (96, 128, 3)) + rng.normal(0, 3, (96, 128, 3))
    rgb[30:66, 45:83] *= 0.5
    return np.clip(rgb * cast, 0, 255).astype(np.uint8)


def alerts(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "dermascan.db")) as db:
        rows = db.execute(
            "SELECT event FROM outbox JOIN outbox_events USING (seq) WHERE type = 'org.dermascan.alert.v1' ORDER BY seq"
        ).fetchall()
    return [json.loads(row[0])["data"] for row in rows]


def watching(store: Store) -> ColourWatches:
    """Watches for which each capture comes long after the one before."""
    ticks = itertools.count(0.0, 2 * SPACING_S)
    return ColourWatches(store, clock=lambda: next(ticks))


def see(watches: ColourWatches, seeds: range, cast: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
    for seed in seeds:
        watches.saw("scope-1", "cal-1", capture(seed, cast))


def test_steady_colours_say_nothing(store: Store, tmp_path: Path) -> None:
    watches = watching(store)
    see(watches, range(3 * WINDOW))
    assert watches.warnings("scope-1") == ()
    assert alerts(tmp_path) == []


@pytest.mark.requirement("R-COL-4")
def test_drift_is_one_alert_and_a_warning_in_every_answer_until_it_is_mended(store: Store, tmp_path: Path) -> None:
    watches = watching(store)
    see(watches, range(WINDOW))
    see(watches, range(WINDOW, 3 * WINDOW), TURNED)
    (sentence,) = watches.warnings("scope-1")
    assert "drifted" in sentence
    store.counts()  # whatever was queued is written
    (alert,) = alerts(tmp_path)
    assert (alert["kind"], alert["dermoscope_id"], alert["profile_id"]) == ("colour_drift", "scope-1", "cal-1")
    assert max(alert["light"], alert["skin"]) > alert["light_limit"] or alert["skin"] > alert["skin_limit"]
    assert watches.warnings("scope-2") == (), "another dermoscope has its own colours"
    see(watches, range(3 * WINDOW, 5 * WINDOW))
    assert watches.warnings("scope-1") == (), "the lamp was mended"
    store.counts()
    assert len(alerts(tmp_path)) == 1


def test_a_new_profile_begins_a_new_watch(store: Store) -> None:
    watches = watching(store)
    see(watches, range(WINDOW))
    see(watches, range(WINDOW, 3 * WINDOW), TURNED)
    assert watches.warnings("scope-1")
    watches.saw("scope-1", "cal-2", capture(0, TURNED))
    assert watches.warnings("scope-1") == ()


def test_the_watch_goes_on_after_a_restart(store: Store, tmp_path: Path) -> None:
    see(watching(store), range(WINDOW))
    again = watching(store)
    see(again, range(WINDOW, 3 * WINDOW), TURNED)
    assert again.warnings("scope-1"), "the commissioning window was kept"
    store.counts()
    assert len(alerts(tmp_path)) == 1
    kept = store.colour_watch("scope-1")
    assert kept
    assert len(json.loads(kept)["commissioning"]) > WINDOW - KEEP_EVERY


def test_pictures_without_skin_are_passed_over(store: Store) -> None:
    watches = watching(store)
    watches.saw("scope-1", "cal-1", np.zeros((96, 128, 3), np.uint8))
    assert store.colour_watch("scope-1") is None


def test_a_damaged_watch_begins_anew_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.keep_colour_watch("scope-1", '{"profile_id": 3}').result(10)
    with caplog.at_level(logging.WARNING):
        assert watching(store).warnings("scope-1") == ()
    assert "begins anew" in caplog.text


def test_a_visits_pictures_of_one_skin_count_once(store: Store) -> None:
    times = iter([100.0, 101.0, 100.0 + 0.9 * SPACING_S, 100.0 + SPACING_S, 100.0 + 1.5 * SPACING_S])
    watches = ColourWatches(store, clock=lambda: next(times))
    see(watches, range(5))
    assert len(watches._watches["scope-1"].commissioning) == 2
