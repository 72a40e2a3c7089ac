"""The whole agent with a broker: a capture's event arrives, is acknowledged and leaves; without a broker it waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.fakes.broker import Broker, free_port
from tests.fakes.certificates import CertificateAuthority
from tests.faults.running import running
from tests.sync.parts import SmallCloud, wait_for

WriteConfig = Callable[..., Path]
CANARY = "CANARY-PATIENT-4711"


def _picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    skin = cv2.resize(rng.integers(40, 250, (5, 6, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".png", skin)[1])


@pytest.mark.fault("F30")
def test_a_captures_event_arrives_and_leaves_and_holds_no_patient(  # noqa: PLR0917
    make_broker: Callable[..., Broker],
    authority: CertificateAuthority,
    make_cloud: Callable[..., Any],
    write_config: WriteConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    broker = make_broker(authority)
    cloud: SmallCloud = make_cloud(broker.port, authority.cert, authority.device("cloud"))
    device = authority.device("device-1")
    section = f'[mqtt]\nhost = "localhost"\nport = {broker.port}\nca = "{authority.cert}"\n'
    section += f'cert = "{device.cert}"\nkey = "{device.key}"\n\n[store]'
    with running(write_config(("[store]", section))) as (daemon, commits):
        (tmp_path / "scope-1" / "a.json").write_text(f'{{"patient_id": "{CANARY}", "age": 61}}')
        (tmp_path / "scope-1" / "a.png").write_bytes(_picture(1))
        scan = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
        wait_for(lambda: daemon.store.outbox_stats().acknowledged == 1, 5.0, "told of the commit, not by the next look")
        assert daemon.sync is not None
        assert daemon.sync.state.sentence == "connected"
    (event,) = [event for topic, event in cloud.heard if topic == "results"]
    assert event["data"]["scan_id"] == scan.scan_id
    wait_for(lambda: cloud.states() == ["online", "offline"])
    assert CANARY in (tmp_path / "state" / "results" / f"{scan.scan_id}.json").read_text()
    assert CANARY not in str(cloud.heard)
    assert CANARY not in caplog.text
    assert CANARY not in broker.log.read_text()


def test_without_a_broker_answers_are_given_and_events_wait(write_config: WriteConfig, tmp_path: Path) -> None:
    section = f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\n\n[store]'
    with running(write_config(("[store]", section))) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(_picture(2))
        commits.wait(lambda by_name: "a.png" in by_name)
        assert daemon.sync is not None
        wait_for(lambda: daemon.sync is not None and "cannot be reached" in daemon.sync.state.sentence)
        assert daemon.store.outbox_stats().waiting == 1


def test_without_the_section_nobody_tries(write_config: WriteConfig, tmp_path: Path) -> None:
    with running(write_config()) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(_picture(3))
        commits.wait(lambda by_name: "a.png" in by_name)
        assert daemon.sync is None
        assert daemon.store.outbox_stats().waiting == 1
