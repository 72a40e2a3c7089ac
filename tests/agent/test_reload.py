"""New settings are taken over by the running agent, or not at all, and no capture is lost for it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.config import load_config
from agent.reload import LIVE, Reloads, differences, merged
from tests.faults.running import running

SCOPE = '[[dermoscope]]\nid = "{0}"\nfolder = "{0}"\n'


def picture(seed: int) -> bytes:
    skin = np.random.default_rng(seed).integers(40, 250, (5, 6, 3), np.uint8)
    return bytes(cv2.imencode(".png", cv2.resize(skin, (320, 240), interpolation=cv2.INTER_CUBIC))[1])


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def config(write_config: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "scope-2").mkdir()
    (tmp_path / "scope-3").mkdir()
    return write_config()


def reloads(daemon, config: Path) -> Reloads:
    return Reloads(config, daemon.config, daemon.parts)


def test_a_dermoscope_comes_and_another_goes(config, tmp_path):
    others = set(threading.enumerate())
    with running(config) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture(1))
        commits.wait(lambda seen: "a.png" in seen)
        change(config, '[[dermoscope]]\nid = "scope-1"\nfolder = "scope-1"\n', SCOPE.format("scope-2"))
        (tmp_path / "scope-2" / "b.png").write_bytes(picture(2))
        done = reloads(daemon, config).reload()
        assert done is not None
        assert (done.changed, done.at_next_start) == (("dermoscopes",), ())
        assert commits.wait(lambda seen: "b.png" in seen)["b.png"].dermoscope_id == "scope-2"
        (tmp_path / "scope-1" / "c.png").write_bytes(picture(3))
        (tmp_path / "scope-2" / "d.png").write_bytes(picture(4))
        commits.wait(lambda seen: "d.png" in seen)
        assert "c.png" not in commits.by_name()
        for thread in [one for one in threading.enumerate() if one.name == "watch-scope-1" and one not in others]:
            thread.join(10)
            assert not thread.is_alive()
        daemon.parts.watches.replace_dead()
        change(config, SCOPE.format("scope-2"), SCOPE.format("scope-2") + SCOPE.format("scope-1"))
        assert reloads(daemon, config).reload() is not None
        commits.wait(lambda seen: "c.png" in seen), "what came meanwhile lay in its folder"


def test_no_capture_is_lost_while_settings_change_again_and_again(config, tmp_path):
    """Pictures keep coming to three folders, of which two come and go."""
    scopes = ["scope-1", "scope-2", "scope-3"]
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 60:
            name = f"{number}.png"
            (tmp_path / scopes[number % 3] / name).write_bytes(picture(100 + number))
            written.append(name)
            number += 1
            stop.wait(0.03)

    with running(config) as (daemon, commits):
        again = reloads(daemon, config)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for turn in range(10):
                wanted = [scopes[0], *(scope for place, scope in enumerate(scopes[1:]) if (turn >> place) % 2)]
                text = config.read_text()
                head, _, tail = text.partition("[[dermoscope]]")
                tail = tail[tail.index("[inference]") :]
                config.write_text(head + "".join(map(SCOPE.format, wanted)) + tail)
                assert again.reload() is not None
                time.sleep(0.15)
        finally:
            writer.join()
            stop.set()
        text = config.read_text()
        head, _, tail = text.partition("[[dermoscope]]")
        config.write_text(head + "".join(map(SCOPE.format, scopes)) + tail[tail.index("[inference]") :])
        assert again.reload() is not None
        commits.wait(lambda seen: set(written) <= set(seen))
        names = [one.path.name for one in commits.seen]
        assert sorted(names) == sorted(written), "each once"


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("quota_mb = 1024", "quota_mb = 1"),
        ("quota_mb = 1024", "quota_mb = 2048\nrubbish = 1"),
        ("[store]", "[store"),
        ('id = "scope-1"', 'id = "scope-1"\n[[dermoscope]]\nid = "scope-1"\nfolder = "x"\n'),
        ('ladder = ["cpu"]', 'ladder = ["cloud", "cpu"]'),
        ("[store]", '[mqtt]\nhost = "broker.example"\n[store]'),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_why(config, tmp_path, caplog, old, new):
    with running(config) as (daemon, commits):
        before = daemon.config
        change(config, old, new)
        change(config, "deadline_s = 3.0", "deadline_s = 2.0")
        assert reloads(daemon, config).reload() is None
        assert daemon.config == before
        assert any("the settings are as they were" in line and str(config) in line for line in caplog.messages)
        (tmp_path / "scope-1" / "a.png").write_bytes(picture(1))
        commits.wait(lambda seen: "a.png" in seen)
    caplog.clear()


def test_what_cannot_change_is_named_and_the_rest_changes(config, caplog):
    caplog.set_level(logging.INFO)
    with running(config) as (daemon, _):
        change(config, 'id = "device-1"', 'id = "device-9"')
        change(config, "quota_mb = 1024", "quota_mb = 2048\nretention_days = 77")
        change(config, "deadline_s = 3.0", "deadline_s = 2.5")
        change(config, "[store]", "[api]\nport = 0\n\n[calibration]\nrequire = true\n\n[store]")
        again = reloads(daemon, config)
        done = again.reload()
        assert done is not None
        assert set(done.changed) == {
            "store.quota_mb",
            "store.retention_days",
            "inference.deadline_s",
            "calibration.require",
        }
        assert set(done.at_next_start) == {"device.id", "api"}
        assert [line for line in caplog.messages if "at the next start" in line] == [
            "device.id changes at the next start, not before",
            "api changes at the next start, not before",
        ]
        assert daemon.config.device.id == "device-1"
        parts = daemon.parts
        assert parts.keeper.retention.retention_days == 77
        assert parts.space.space().quota == 2048 << 20
        pages = parts.store.look(lambda db: db.execute("PRAGMA max_page_count").fetchone()[0])
        assert pages == 2048 * 256
        assert daemon._setting.deadline_s == 2.5
        assert again.reload() is not None
        assert daemon.config == merged(daemon.config, load_config(config)), "a second time changes nothing"


def test_the_broker_is_exchanged(config):
    with running(config) as (daemon, _):
        assert daemon.sync is None
        change(config, "[store]", '[mqtt]\nhost = "127.0.0.1"\nport = 9\n\n[store]')
        assert reloads(daemon, config).reload() is not None
        first = daemon.sync
        assert first is not None
        change(config, "port = 9", "port = 19")
        again = reloads(daemon, config)
        assert again.reload() is not None
        assert daemon.sync is not first
        assert not first.alive
        assert daemon.sync is not None
        assert daemon.sync.alive
        change(config, '[mqtt]\nhost = "127.0.0.1"\nport = 19\n\n', "")
        assert again.reload() is not None
        assert daemon.sync is None


def test_the_cloud_rung_is_exchanged(config, tmp_path):
    key = tmp_path / "pseudonym.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    change(config, 'ladder = ["cpu"]', 'ladder = ["cloud", "cpu"]')
    change(
        config, "[store]", f'[privacy]\npseudonym_key_file = "{key}"\n\n[cloud]\nurl = "http://127.0.0.1:9"\n\n[store]'
    )
    with running(config) as (daemon, commits):
        before = daemon.ladder.rungs
        change(config, "127.0.0.1:9", "127.0.0.1:19")
        done = reloads(daemon, config).reload()
        assert done is not None
        assert done.changed == ("cloud",)
        assert daemon.ladder.rungs[0].runner is not before[0].runner
        assert daemon.ladder.rungs[1] is before[1], "what answers is left alone"
        (tmp_path / "scope-1" / "a.png").write_bytes(picture(1))
        commits.wait(lambda seen: "a.png" in seen)


def test_every_live_key_is_one():
    from agent.config import Config

    for key in LIVE:
        section, _, name = key.partition(".")
        assert section in Config.model_fields
        if name:
            default = Config.model_fields[section].annotation
            assert name in default.model_fields
    assert differences is not None


def test_sighup_reloads_and_never_ends_the_agent(config, tmp_path):
    """The whole process: HUP before and after it is ready, with a right and a wrong file."""
    agent = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "run", "--config", str(config)], stderr=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(agent.stderr.readline, "")), daemon=True)
    reader.start()

    def wait_for(word: str) -> None:
        give_up = time.monotonic() + 25
        while not any(word in line for line in lines):
            assert time.monotonic() < give_up, lines
            assert agent.poll() is None, lines
            time.sleep(0.05)

    try:
        wait_for("[agent.watching]")
        wait_for("[agent.ready]")
        change(config, "quota_mb = 1024", "quota_mb = 2048")
        agent.send_signal(signal.SIGHUP)
        wait_for("[agent.reloaded]")
        change(config, "quota_mb = 2048", "quota_mb = 2")
        agent.send_signal(signal.SIGHUP)
        wait_for("[agent.not-reloaded]")
        (tmp_path / "scope-1" / "CANARY.png").write_bytes(picture(1))
        wait_for("[answer.answered]")
    finally:
        agent.terminate()
        assert agent.wait(20) == 0
        reader.join(5)
        agent.stderr.close()
    assert not [line for line in lines if "CANARY" in line]
