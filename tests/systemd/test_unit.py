"""The service file keeps the contract that the code has with it."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from agent import exits
from agent.cli import build_parser

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "dermascan-agent.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    return unit["Service"]


@pytest.mark.fault("F24")
def test_a_wrong_configuration_is_not_started_again(service: configparser.SectionProxy) -> None:
    assert service["RestartPreventExitStatus"].split() == [str(exits.EXIT_CONFIG)]
    assert service["Restart"] == "on-failure"


def test_the_command_line_is_one_that_the_command_understands(service: configparser.SectionProxy) -> None:
    _, *arguments = shlex.split(service["ExecStart"])
    parsed = build_parser().parse_args(arguments)
    assert parsed.config == Path("/etc/dermascan/agent.toml")


def test_no_shell_and_no_core_dump(service: configparser.SectionProxy) -> None:
    assert service["ExecStart"].startswith("/opt/dermascan/bin/dermascan ")
    assert service["LimitCORE"] == "0"
