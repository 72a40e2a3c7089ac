"""``dermascan cloud`` as a process, and ``dermascan cloud report``."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from agent.messages.catalogue import STATUS
from cloud.commands import register
from cloud.ledger import Ledger
from cloud.reading import read
from tests.cloud.conftest import event, until
from tests.cloud.test_server import body

TOPIC = "dermascan/v1/clinic-a/clinic-a-room-2/"
CLOUD = [sys.executable, "-c", "import sys; from tests.cloud.test_commands import run; sys.exit(run(sys.argv[1:]))"]


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["cloud", *words])
    code: int = arguments.run(arguments)
    return code


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    ledger.commit([read(TOPIC + "results", event(number)) for number in (1, 2, 5)])
    ledger.commit([read(TOPIC + "status", event(None, message=STATUS, event_id="birth"))])
    yield path
    ledger.close()


def test_the_report_shows_the_gap(ledger, capsys):
    assert run(["report", "--ledger", str(ledger)]) == 3
    shown = capsys.readouterr().out
    assert re.search(r"results\s+3\s+0\s+0\s+5\s+2\s+3-4", shown), shown
    assert shown.startswith("clinic-a / clinic-a-room-2: online\n")
    assert run(["report", "--ledger", str(ledger), "--json"]) == 3
    device = json.loads(capsys.readouterr().out)
    assert device["streams"][0]["gaps"] == [[3, 4]]


def test_a_whole_ledger_and_none(ledger, tmp_path, capsys):
    again = Ledger(ledger)
    again.commit([read(TOPIC + "results", event(number)) for number in (3, 4)])
    again.close()
    assert run(["report", "--ledger", str(ledger)]) == 0
    capsys.readouterr()
    assert run(["report", "--ledger", str(tmp_path / "none.db")]) == 1
    assert "there is no ledger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to do"),
        (["--broker", "broker.example"], "--allow-insecure"),
        (["--broker", "127.0.0.1:x"], "is no HOST:PORT"),
        (["--broker", "127.0.0.1", "--cert", "a.pem"], "belong together"),
        (["--broker", "127.0.0.1", "--ca", "none.pem"], "none.pem: cannot be read"),
        (["--listen", "127.0.0.1"], "is no HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "without TLS"),
        (["--listen", "127.0.0.1:0", "--client-ca", "ca.pem"], "needs them"),
        (["--listen", "127.0.0.1:0", "--token-file", "none"], "none: cannot be read"),
        (["--listen", "127.0.0.1:0", "--listen-cert", "a.pem", "--listen-key", "a.key"], "cannot be used for TLS"),
    ],
)
def test_what_does_not_hold_together_is_refused(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert run([*words, "--ledger", str(tmp_path / "l.db")]) == 78
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "l.db").exists(), "all of it is checked before anything is begun"


def test_both_parts_in_one_process(broker, make_device: Callable, tmp_path):
    path = tmp_path / "ledger.db"
    words = ["--broker", f"127.0.0.1:{broker.port}", "--ledger", str(path), "--listen", "127.0.0.1:0"]
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    cloud = subprocess.Popen(
        [*CLOUD, *words, "--token-file", str(token)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert "hearing devices on 127.0.0.1" in cloud.stdout.readline()
        url = re.search(r"http://127.0.0.1:\d+", cloud.stdout.readline()).group()
        device = make_device(broker.port)

        def heard() -> bool:
            device.send(event(1))
            return bool(device.acked)

        until(heard)
        until(lambda: httpx.get(f"{url}/healthz", timeout=15).status_code == 200, 25)
        assert httpx.get(f"{url}/healthz", timeout=15).json()["consumer"]["new"] == 1
        headers = {"Authorization": "Bearer s3cret"}
        response = httpx.post(f"{url}/api/v1/analyze", json=body(), headers=headers, timeout=15)
        assert response.status_code == 200
        cloud.send_signal(signal.SIGTERM)
        assert cloud.wait(20) == 0
    finally:
        cloud.kill()
        cloud.wait()
        cloud.stdout.close()
    assert run(["report", "--ledger", str(path)]) == 0
