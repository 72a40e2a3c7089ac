"""The consumers in docs/cloud.md, run as they are written there, but for the port."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.messages.catalogue import ACK, MESSAGES
from agent.messages.envelope import parse
from tests.cloud.conftest import FakeDevice, event, until

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cloud.md"


def block(language: str, words: str) -> str:
    """The code block of a language with these words in it."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if words in text]
    assert len(found) == 1
    return found[0]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def exchange(device: FakeDevice) -> None:
    """Send two events until both are acknowledged, then both again, and look at the acknowledgements."""

    def repeat() -> bool:
        for number in (1, 2):
            device.send(event(number))
        return {f"{device.sender.device_id}-results-{number}" for number in (1, 2)} <= set(device.acked)

    until(repeat)  # until it has subscribed, nobody hears
    heard = len(device.acked)
    repeat()
    until(lambda: len(device.acked) > heard)


def test_the_python_consumer(broker, make_device, tmp_path):
    code = block("python", "loop_forever")
    assert len([line for line in code.splitlines() if line]) <= 13
    (tmp_path / "consumer.py").write_text(code.replace("1883", str(broker.port)))
    device = make_device(broker.port)
    with running([sys.executable, "consumer.py"], tmp_path):
        exchange(device)
    with sqlite3.connect(tmp_path / "events.db") as database:
        kept = {row[0] for row in database.execute("SELECT event FROM events")}
    database.close()
    assert kept == {event(1).decode(), event(2).decode()}
    assert parse(device.last_ack, [ACK]).message is ACK


def test_the_shell_consumer(broker, make_device, tmp_path):
    for tool in ("bash", "mosquitto_sub", "mosquitto_pub"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: apt-get install mosquitto-clients)")
    (tmp_path / "consumer.sh").write_text(block("sh", "while read").replace("1883", str(broker.port)))
    device = make_device(broker.port)
    with running(["bash", "consumer.sh"], tmp_path):
        exchange(device)
    kept = (tmp_path / "events.jsonl").read_text().splitlines()
    assert sorted(kept) == sorted((event(1).decode(), event(2).decode()))
    ack = json.loads(device.last_ack)
    assert set(ack) >= {"specversion", "id", "source", "type", "time", "datacontenttype", "data"}
    assert parse(device.last_ack, [ACK]).message is ACK


def test_the_table_names_every_message():
    text = DOCUMENT.read_text()
    for message in MESSAGES:
        assert f"| `{message.topic}` |" in text
        assert f"`{message.type.split('.')[-2]}`" in text
