"""Keys, passwords and tokens: the exact chmod for each that others can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.checks.secrets import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import as_other_user, look

OTHER = 12345
MQTT = ("[store]", '[mqtt]\nhost = "127.0.0.1"\nusername = "u"\npassword_file = "password"\n\n[store]')
PRIVACY = ("[store]", '[privacy]\npseudonym_key_file = "pseudonym.key"\n\n[store]')


@pytest.fixture
def password(make_place, tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse")
    path.chmod(0o600)
    return path


def test_without_secrets(make_place) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)


def test_a_closed_file(make_place, password: Path) -> None:
    assert look(CHECK, make_place(MQTT)).ok


@pytest.mark.parametrize(("mode", "right"), [(0o644, "600"), (0o604, "600"), (0o660, "600"), (0o444, "400")])
def test_a_file_that_others_may_read(make_place, password: Path, mode: int, right: str) -> None:
    password.chmod(mode)
    finding = look(CHECK, make_place(MQTT)).one(Outcome.FAILED)
    assert f"run: sudo chmod {right} {password};" in finding.remedy
    assert finding.mend is not None
    assert f"{finding.mend.mode:o}" == right
    assert "horse" not in str(finding)


@as_other_user(OTHER)
def test_a_file_of_root_that_the_agent_reads_by_its_group(make_place, password: Path, monkeypatch) -> None:
    place = make_place(MQTT)
    os.chown(place.state_dir, OTHER, OTHER)
    assert f"chown {OTHER} {password}" in look(CHECK, make_place(MQTT)).one(Outcome.FAILED, "may not read").remedy
    folder = password.parent / "credentials"
    folder.mkdir()
    password.rename(folder / "password")
    handed = (MQTT[0], MQTT[1].replace('"password"', '"credentials/password"'))
    assert look(CHECK, make_place(handed)).ok, "systemd hands it over"


def test_missing_empty_and_odd_files(make_place, password: Path) -> None:
    password.write_text("")
    assert look(CHECK, make_place(MQTT)).one(Outcome.FAILED, "is empty")
    password.unlink()
    assert look(CHECK, make_place(MQTT)).one(Outcome.FAILED, "is missing")
    password.mkdir()
    assert look(CHECK, make_place(MQTT)).one(Outcome.FAILED, "no plain file")


def test_a_folder_in_which_everybody_may_exchange_it(make_place, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/password").write_text("x" * 20)
    (tmp_path / "keys/password").chmod(0o600)
    (tmp_path / "keys").chmod(0o777)
    place = make_place((MQTT[0], MQTT[1].replace('"password"', '"keys/password"')))
    assert f"chmod 775 {tmp_path}/keys" in look(CHECK, place).one(Outcome.FAILED, "exchange").remedy


def test_a_pseudonym_key_that_is_none(make_place, tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    assert look(CHECK, make_place(PRIVACY)).ok
    path.write_bytes(b"0" * 32)
    assert look(CHECK, make_place(PRIVACY)).one(Outcome.FAILED, "not random")


def test_the_tokens_of_the_page(make_place, tmp_path: Path) -> None:
    place = make_place()
    (place.state_dir / "access").mkdir(mode=0o700)
    tokens = place.state_dir / "access/tokens.json"
    tokens.write_text("{}")
    tokens.chmod(0o640)
    assert f"chmod 600 {tokens}" in look(CHECK, place).one(Outcome.FAILED).remedy
