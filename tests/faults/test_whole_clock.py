"""The whole agent under a wall clock that starts in 1970, jumps and goes back: the same states by any way (F16)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.sync.scene import Scene, read_books
from tests.fakes.outside_world import NoCompiler, OutsideWorld
from tests.faults.whole import WholeAgent, check_books, drop, rows, until, wait_filed

pytestmark = pytest.mark.fault("F16")
WriteConfig = Callable[..., Path]
DAY_S = 86400.0
BORN = 0.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutsideWorld]:
    try:
        made = OutsideWorld(tmp_path / "world")
    except NoCompiler as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.mark.parametrize(
    "path",
    [
        (BORN, None),  # no battery; the time comes while it works
        (-13.0, 0.0),  # seconds beside the truth: it goes back, and forward again
        (0.0, -13.0),
        (DAY_S, -DAY_S),
        (None, BORN),
    ],
    ids=["born-in-1970", "back-and-right", "back-13-s", "two-days-back", "into-1970"],
)
def test_any_way_of_the_clock_gives_the_same_states(
    write_config: WriteConfig, tmp_path: Path, world: OutsideWorld, path: tuple[float | None, float | None]
) -> None:
    def turn(step: float | None) -> None:
        if step == BORN and step in path and None in path:
            world.set_clock(5.0)
        else:
            world.shift_clock(step or 0.0)

    scope, hashes, results = tmp_path / "scope-1", [], tmp_path / "state" / "results"
    turn(path[0])
    with WholeAgent(write_config(), environment=world.environment) as agent:
        agent.wait_ready()
        hashes += drop(scope, 1, 2)
        wait_filed(tmp_path, hashes)
        turn(path[1])
        hashes += drop(scope, 3, 4)
        wait_filed(tmp_path, hashes)
        agent.stop()
    check_books(tmp_path, hashes)
    found = rows(tmp_path, "SELECT image_sha256, clock_trusted, scan_id FROM scans ORDER BY seq")
    assert [sha256 in hashes[:2] for sha256, *_ in found] == [True, True, False, False], "the order is not by the clock"
    in_1970 = [step == BORN and None in path for step in path]
    assert [not trusted for _, trusted, _ in found] == [in_1970[0]] * 2 + [in_1970[1]] * 2
    answers = [json.loads((results / f"{scan_id}.json").read_bytes()) for *_, scan_id in found]
    assert all(0.0 < answer["latency_ms"] < 20_000.0 for answer in answers), "an interval followed the wall clock"


def test_born_in_1970_the_events_arrive_when_the_time_does(
    write_config: WriteConfig, tmp_path: Path, world: OutsideWorld
) -> None:
    """Every certificate is of the future then: the connection is tried again, and nothing ends for it."""
    with Scene(tmp_path / "cloud-side") as scene, scene.cloud() as cloud:
        until(lambda: cloud.lines, "the cloud")
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in scene.mqtt().items())
        world.set_clock(5.0)
        config = write_config(("[store]", f"[mqtt]\n{lines}\n\n[store]"))
        with WholeAgent(config, environment=world.environment) as agent:
            agent.wait_ready()
            hashes = drop(tmp_path / "scope-1", 1)
            wait_filed(tmp_path, hashes)
            agent.wait_said("not yet valid")
            time.sleep(0.5)
            assert not rows(tmp_path, "SELECT 1 FROM outbox WHERE state <> 'waiting'")
            world.shift_clock(0.0)
            until(lambda: not rows(tmp_path, "SELECT 1 FROM outbox WHERE state = 'waiting'"), "the event arrives")
            agent.stop()
    check_books(tmp_path, hashes)
    assert read_books(tmp_path / "state", scene.ledger).in_order
