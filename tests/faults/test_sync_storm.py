"""Many devices and one broker that restarts: what it gets of attempts is bounded (F17)."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.sync.limits import SyncLimits
from benchmarks.sync.thousand import measure


@pytest.mark.fault("F17")
def test_sixty_devices_do_not_come_back_in_one_moment(tmp_path: Path) -> None:
    done = measure(
        tmp_path, devices=60, processes=2, down_s=3.0, limits={"reconnect_base_s": 2.0, "reconnect_cap_s": 4.0}
    )
    assert done.first_s < done.devices, "a device tries less than once in the first second"
    assert max(done.most_down, done.most_back) < 1.2 * done.devices
    assert done.total >= done.devices


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.fault("F17")
def test_a_thousand_devices(tmp_path: Path) -> None:
    done = measure(tmp_path, down_s=60.0)
    even = done.devices / SyncLimits().reconnect_base_s
    assert done.first_s < 1.5 * even
    assert done.most_down < 2.0 * even
    assert done.most_back < 0.5 * even
