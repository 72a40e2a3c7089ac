"""``dermascan doctor``: exit codes, JSON, plain text, a terminal, and mending."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from agent.doctor import commands, examination
from agent.doctor.examination import Examination
from agent.doctor.finding import Finding, Kind, Mend, Outcome
from agent.doctor.report import lines
from agent.doctor.screen import show

FAKES = "tests.doctor.fake_checks"
FINDINGS = (
    Finding("a", Outcome.OK, "It works."),
    Finding("b", Outcome.WARNING, "It ends [soon].", "It matters.", "renew it"),
    Finding("c", Outcome.FAILED, "It is open.", "It matters more.", "run: chmod 600 x", Mend(Kind.CHMOD, "x", 0o600)),
    Finding("d", Outcome.SKIPPED, "There is none."),
)
TITLES = {"a": "Model", "b": "Certificates", "c": "Keys", "d": "GPU"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``run(list of checks, word, …)``: the command with these checks."""

    def call(checks: str, *words: str) -> int:
        real = examination.examine

        def examine(config: Path, names: object, *, progress: object) -> Examination:
            return real(config, names, checks=f"{FAKES}:{checks}", progress=progress)  # type: ignore[arg-type]

        monkeypatch.setattr(commands, "examine", examine)
        parser = argparse.ArgumentParser()
        commands.register(parser.add_subparsers())
        arguments = parser.parse_args(["doctor", *words])
        code: int = arguments.run(arguments)
        return code

    return call


def told(findings: tuple[Finding, ...]) -> Examination:
    return Examination("device-1", TITLES, findings, 1.0)


@pytest.mark.parametrize(
    ("findings", "code"), [(FINDINGS, 2), (FINDINGS[:2], 1), ((FINDINGS[0], FINDINGS[3]), 0), ((), 0)]
)
def test_exit_codes(findings: tuple[Finding, ...], code: int) -> None:
    assert told(findings).exit_code == code


@pytest.mark.requirement("R-SRV-5")
def test_the_plain_report_can_be_read_out() -> None:
    text = "\n".join(lines(told(FINDINGS), ["x: was removed."]))
    assert "1 failed and 1 warning." in text
    assert "mended   x: was removed." in text
    what, _, todo = text.partition("\n1. ")
    assert "FAILED   Keys" in what
    assert todo.startswith("FAILED: Keys. It is open.\n   Why it matters: It matters more.\n   What to do: run: chmod")
    assert "Or let the doctor do it: sudo dermascan doctor --fix\n" in todo
    assert "2. WARNING: Certificates" in todo
    assert "All is well." in "\n".join(lines(told(FINDINGS[:1])))


@pytest.mark.requirement("R-SRV-5")
def test_the_screen_says_the_same_words() -> None:
    out = io.StringIO()
    show(told(FINDINGS), ["x: was removed."], Console(file=out, width=100, force_terminal=True, color_system=None))
    text = out.getvalue()
    for finding in FINDINGS:
        assert finding.sentence in text
        assert finding.remedy in text
    assert text.index("1. FAILED") < text.index("2. WARNING")


def test_json(run, write_config, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("CHATTERING", "--json", "--config", str(write_config())) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["counts"] == {"ok": 0, "warning": 1, "failed": 0, "skipped": 0}
    assert content["findings"] == [
        {
            "title": "Chatters",
            "check": "chatters",
            "outcome": "warning",
            "sentence": "It says something.",
            "why": "It matters.",
            "remedy": "nothing",
            "fixable": False,
        }
    ]
    assert (content["format"], content["device_id"], content["exit_code"]) == (1, "device-1", 1)


def test_fix_mends_and_looks_again(run, write_config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "secret").chmod(0o644)
    config = str(write_config())
    assert run("MENDABLE", "--config", config) == 2
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o644, "without --fix nothing is changed"
    capsys.readouterr()
    assert run("MENDABLE", "--fix", "--json", "--config", config) == 0
    assert json.loads(capsys.readouterr().out)["mended"] == [f"{tmp_path / 'secret'}: mode 644 is now 600."]
    assert run("MENDABLE", "--fix", "--config", config) == 0


def test_what_cannot_be_mended_is_said(run, write_config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "secret").chmod(0o644)
    (tmp_path / "second").hardlink_to(tmp_path / "secret")
    assert run("MENDABLE", "--fix", "--config", str(write_config())) == 2
    assert "not mended: " in capsys.readouterr().out


def test_the_list_and_an_unknown_name(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ALL", "--list") == 0
    assert "clock          Clock: the date" in capsys.readouterr().out
    assert run("ALL", "--list", "--json") == 0
    assert "looks_at" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("ALL", "--check", "no-such-check")
    assert "dermascan doctor --list" in capsys.readouterr().err
