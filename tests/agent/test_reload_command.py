"""``dermascan reload``, beside a real agent and without one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli import main
from agent.exits import EXIT_CONFIG
from agent.reload_command import running_on
from benchmarks.process import AgentProcess, write_config
from engines.bundle import demo_bundle_folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, demo_bundle_folder(), 1)


def test_the_running_agent_takes_new_settings_over(config: Path, capsys) -> None:
    with AgentProcess(config) as agent:
        agent.wait_for("agent.ready", 30)
        assert running_on(config.parent / "state") == agent.agent.pid
        config.write_text(config.read_text().replace("quota_mb = 100000", "quota_mb = 90000"))
        assert main(["reload", "--config", str(config)]) == 0
        assert str(agent.agent.pid) in capsys.readouterr().out
        agent.wait_for("changed: store.quota_mb", 30)


def test_wrong_settings_are_named_and_never_reach_the_agent(config: Path, capsys) -> None:
    with AgentProcess(config) as agent:
        agent.wait_for("agent.ready", 30)
        config.write_text(config.read_text().replace("quota_mb = 100000", "quota_mb = 1"))
        assert main(["reload", "--config", str(config)]) == EXIT_CONFIG
        assert "quota_mb" in capsys.readouterr().err
        with pytest.raises(TimeoutError):
            agent.wait_for("reload", 0.5)


def test_without_an_agent_it_says_so(config: Path, capsys) -> None:
    assert main(["reload", "--config", str(config)]) == 1
    assert "no agent runs there" in capsys.readouterr().err


def test_another_process_of_the_same_number_is_not_told(config: Path, capsys) -> None:
    """An agent that died left its number behind, and the number came to be somebody else's."""
    state = config.parent / "state"
    state.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        (state / "agent.lock").write_text(f"{other.pid}\n")
        assert main(["reload", "--config", str(config)]) == 1
        time.sleep(0.1)
        assert other.poll() is None, "SIGHUP would have ended it"
        other.kill()
    assert "no agent runs there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["", "x\n", "-1\n", "99999999999999999999\n", f"{os.getpid()}\n"],
    ids=["empty", "a word", "negative", "too large", "this very process"],
)
def test_a_lock_that_names_no_agent(config: Path, content: str) -> None:
    state = config.parent / "state"
    state.mkdir()
    (state / "agent.lock").write_text(content)
    assert running_on(state) is None
