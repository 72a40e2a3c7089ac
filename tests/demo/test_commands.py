"""The whole demonstration: the real agent, the real engine, the simulated dermoscope."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from agent.demo.screen import HEADER

DEMO = [sys.executable, "-m", "agent.cli", "demo"]


def environment():
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


@pytest.mark.timeout(120)
def test_once_ends_by_itself_with_every_answer(tmp_path, demo_bundle):
    ended = subprocess.run(
        [*DEMO, "--once", "--captures", "4", "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=environment(),
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.stdout), "control codes in a pipe"
    assert HEADER in ended.stdout
    assert "3 answered, 1 rejected, 0 open" in ended.stdout
    results = tmp_path / "state" / "results"
    answers = [json.loads(path.read_text()) for path in results.glob("*.json")]
    assert len(answers) == 4
    assert len(list(results.glob("*.png"))) == 3
    # The sidecars were read: the patients who do not exist are in the local answers.
    assert sum(str(answer.get("patient_id")).startswith("SYN_PATIENT_") for answer in answers) == 3


@pytest.mark.timeout(120)
def test_ctrl_c_ends_it_cleanly(tmp_path, demo_bundle):
    demo = subprocess.Popen(
        [*DEMO, "--state", str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        for line in demo.stdout:
            if line.startswith("SYN_00001.jpg"):
                break
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 0, errors
    assert not errors
    assert re.search(r"\d answered, 0 rejected", rest)


@pytest.mark.parametrize("wrong", [["--captures", "0"], ["--seed", "-1"], ["--captures", "many"]])
def test_wrong_numbers_are_refused(wrong, capsys):
    from agent.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["demo", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err
