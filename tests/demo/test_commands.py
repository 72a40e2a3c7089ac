"""The whole demonstration: agent, engine, simulated dermoscope, broker and reference cloud, all of them real."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.config import load_config
from agent.demo.broker import is_installed
from agent.demo.screen import HEADER

DEMO = [sys.executable, "-m", "agent.cli", "demo"]
WITHOUT_BROKER = [
    sys.executable,
    "-c",
    "import sys; sys.modules['iotcore'] = None; from agent.cli import main; sys.exit(main())",
    "demo",
]

with_broker = pytest.mark.skipif(not is_installed(), reason="iotcore, the embedded broker, is not installed here")


def environment(**more):
    return {**os.environ, "PYTHONUNBUFFERED": "1", **more}


def play(state, captures, *, command=DEMO, **more):
    return subprocess.run(
        [*command, "--once", "--captures", str(captures), "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=environment(**more),
    )


def begin(state):
    return subprocess.Popen(
        [*DEMO, "--state", str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def ledger(state, sql):
    database = sqlite3.connect(f"file:{state / 'cloud.db'}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def processes_of(state):
    """Those that have the state folder on their command line: broker and cloud."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if str(state).encode() in command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def none_left(state):
    until = time.monotonic() + 10
    while (left := processes_of(state)) and time.monotonic() < until:
        time.sleep(0.05)
    return not left


@with_broker
@pytest.mark.timeout(120)
def test_once_ends_by_itself_with_every_answer_in_the_cloud(tmp_path, demo_bundle):
    state = tmp_path / "state"
    ended = play(state, 4)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert not ended.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.stdout), "control codes in a pipe"
    assert HEADER in ended.stdout
    assert "3 answered, 1 rejected, 0 open" in ended.stdout
    results = state / "results"
    answers = [json.loads(path.read_text()) for path in results.glob("*.json")]
    assert len(answers) == 4
    assert len(list(results.glob("*.png"))) == 3
    # The sidecars were read: the patients who do not exist are in the local answers.
    assert sum(str(answer.get("patient_id")).startswith("SYN_PATIENT_") for answer in answers) == 3

    # The round trip, as it is shown and as the ledger has it.
    assert len(re.findall(r"SYN_0000[1-4]\.\w+: acknowledged by the cloud after \d+\.\d\d s", ended.stdout)) == 4
    pulled, back, whole = (
        ended.stdout.index(words) for words in ("network pulled: answers go on", "network back: ", "network back: all ")
    )
    assert pulled < ended.stdout.index("SYN_00003.png (") < back, "no answer came while the network was out"
    assert back < ended.stdout.index("SYN_00003.png: acknowledged") < whole
    assert "cloud: 4 of 4 events acknowledged, 0 events wait" in ended.stdout
    assert "the cloud's ledger, over all starts: 4 events, 0 missing" in ended.stdout
    scans = {answer["scan_id"] for answer in answers}
    assert sorted(ledger(state, "SELECT subject, count(*) FROM events GROUP BY subject")) == sorted(
        (scan, 1) for scan in scans
    )
    mqtt = load_config(state / "agent.toml").mqtt
    assert (mqtt.host, mqtt.delivery) == ("127.0.0.1", "cloud-ack")
    assert none_left(state)


@with_broker
@pytest.mark.timeout(120)
@pytest.mark.fault("F19")
def test_killed_while_the_network_is_out_nothing_is_lost_or_doubled(tmp_path, demo_bundle):
    """No child is left behind; the next start goes on with the same folder and the same ledger."""
    state = tmp_path / "state"
    demo = begin(state)
    try:
        for line in demo.stdout:
            if "network pulled" in line:
                break
        assert len(processes_of(state)) == 3  # this one, the broker and the cloud
    finally:
        demo.kill()
        demo.communicate()
    assert none_left(state)
    again = play(state, 1)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "1 answered" in again.stdout
    found = ledger(state, "SELECT count(*), count(DISTINCT subject), max(sequence) FROM events")
    assert found == [(3, 3, 3)]
    assert "the cloud's ledger, over all starts: 3 events, 0 missing" in again.stdout
    assert none_left(state)


@with_broker
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_ends_cleanly(tmp_path, demo_bundle, number):
    state = tmp_path / "state"
    demo = begin(state)
    try:
        for line in demo.stdout:
            if "network pulled" in line:
                break
        demo.send_signal(number)
        rest, errors = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 0, errors
    assert not errors
    assert "network back: " in rest, "the cable is put back before the end"
    answered, acknowledged = (
        int(re.search(pattern, rest)[1]) for pattern in (r"(\d) answered, 0 rejected", r"cloud: (\d) of")
    )
    assert answered == acknowledged
    assert none_left(state)


@pytest.mark.timeout(60)
def test_without_the_embedded_broker_it_says_so_and_goes_on(tmp_path, demo_bundle):
    state = tmp_path / "state"
    ended = play(state, 1, command=WITHOUT_BROKER)
    assert ended.returncode == 0, ended.stderr
    assert len(re.findall(r"^no round trip to the cloud: .*not installed.*$", ended.stdout, re.MULTILINE)) == 1
    assert "1 answered, 0 rejected, 0 open" in ended.stdout
    assert "acknowledged" not in ended.stdout
    assert load_config(state / "agent.toml").mqtt is None


@pytest.mark.timeout(60)
def test_a_broken_broker_is_a_failure_and_the_answers_come_all_the_same(tmp_path, demo_bundle):
    fake = tmp_path / "fake" / "iotcore"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text("raise SystemExit('this broker is broken')")
    ended = play(tmp_path / "state", 1, PYTHONPATH=str(fake.parent))
    assert ended.returncode == 1
    assert "1 answered, 0 rejected, 0 open" in ended.stdout
    assert "no round trip to the cloud: the broker does not listen: this broker is broken" in ended.stderr


@pytest.mark.parametrize("wrong", [["--captures", "0"], ["--seed", "-1"], ["--captures", "many"]])
def test_wrong_numbers_are_refused(wrong, capsys):
    from agent.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["demo", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err
