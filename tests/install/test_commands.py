"""The commands, as somebody types them: exit codes, words, JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from agent.install import commands
from agent.install.journal import SettingsRefused
from agent.install.layout import GROUPS

Make = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with nothing in it: accounts are made by this machine's systemd-sysusers."""
    if os.geteuid() != 0:
        pytest.skip("owners can be given by root alone: start the tests of the installation as root")
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not on this machine (package systemd)")
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def install(root: Path, folder: Path, *more: str) -> int:
    return commands.main(["install", "--from", str(folder), "--root", str(root), "--without-software", *more])


def test_an_empty_root_is_enough(root: Path, release: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = release()
    assert install(root, folder, "--device-id", "room-2", "--clinic-id", "clinic-a") == EXIT_OK
    assert "DermaScan Edge 1.0-" in capsys.readouterr().out
    groups = (root / "etc/group").read_text()
    assert all(f"\n{group}:" in f"\n{groups}" for group in GROUPS)
    assert "dermascan:" in (root / "etc/passwd").read_text()
    assert (root / "var/lib/dermascan").stat().st_uid != 0
    assert install(root, folder, "--json") == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert told["error"] is None
    assert {step["outcome"] for step in told["steps"]} == {"kept"}


def test_whoever_is_not_root_is_told_so(
    root: Path, release: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install(root, release()) == EXIT_FAILED
    assert "sudo" in capsys.readouterr().err
    assert not list(root.iterdir())


def test_wrong_settings_have_their_own_exit_code(
    root: Path, release: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.install.installing import Installation

    def refuse(*_: object) -> None:
        raise SettingsRefused("/etc/dermascan/agent.toml: device.id: is missing")

    monkeypatch.setattr(Installation, "install", refuse)
    assert install(root, release(), "--json") == EXIT_CONFIG
    assert "device.id" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["install"], "nothing is installed"),
        (["install", "--rollback"], "no release to go back to"),
        (["install", "--from", "/nowhere"], "is no release"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_remedy(
    root: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([*words, "--root", str(root)]) == EXIT_FAILED
    assert says in capsys.readouterr().err


def test_a_file_where_a_folder_belongs_is_no_traceback(
    root: Path, release: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "etc").mkdir()
    (root / "etc/dermascan").write_text("")
    assert install(root, release()) == EXIT_FAILED
    assert "is in the way" in capsys.readouterr().err


def test_the_whole_command_has_both_verbs() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    assert parser.parse_args(["uninstall", "--purge"]).purge
    assert parser.parse_args(["install", "--no-system-site-packages"]).system_site_packages is False
