"""The support bundle: nothing of patients, secrets and people is in it, whatever the device has of them (F30)."""

from __future__ import annotations

import argparse
import base64
import json
import os
import tarfile
from pathlib import Path

import pytest

from agent.access.tokens import Role, Tokens
from agent.doctor import commands
from agent.doctor.support import packing
from agent.doctor.support.canaries import Canaries
from agent.doctor.support.packing import CannotPack, pack
from agent.doctor.support.redaction import Redactor
from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason
from agent.records.sealing import Seal, read_seal
from agent.records.store import Store

PATIENT = "CANARY-PATIENT-4711"
NAME = "Canary Müllerová"
WORD = "canary:correct-horse/battery"
NURSE = "Nurse Canary"
NOTE = 'canary note: "her sister had one too"'
USERNAME = "canary-user"
SHA = "c0" * 32
FAKES = "tests.doctor.fake_checks:ALL"
MQTT = f'[mqtt]\nhost = "127.0.0.1"\nport = 1\nusername = "{USERNAME}"\npassword_file = "password"\n'
PRIVACY = '[privacy]\nfield_key_file = "field.key"\npseudonym_key_file = "pseudonym.key"\n\n[store]'


@pytest.fixture
def device(write_config, tmp_path: Path, request: pytest.FixtureRequest):
    """A device that knows a patient; returns its settings and every text that must stay on it."""
    for name in ("field.key", "pseudonym.key"):
        (tmp_path / name).write_bytes(os.urandom(32))
    (tmp_path / "password").write_text(WORD)
    for name in ("field.key", "pseudonym.key", "password"):
        (tmp_path / name).chmod(0o600)
    config = write_config(("[store]", f"{MQTT}\n{PRIVACY}"))
    capture = tmp_path / "scope-1" / f"{NAME} left arm.jpg"
    capture.touch()
    sealed = getattr(request, "param", False)
    seal = read_seal(tmp_path / "field.key") if sealed else Seal()
    store = Store.open(tmp_path / "state", "device-1", 256, clinic_id="clinic-1", software_version="9.9", seal=seal)
    claim = store.claim(f"sha256:{SHA}", SHA, capture, "scope-1", FileStamp(1, 2, 3, 4, 5)).result()
    store.add_metadata(claim.scan_id, {"patient_id": PATIENT}).result()
    store.reject(claim.scan_id, Reason.DAMAGED, "It is damaged.").result()
    store.verdict(claim.scan_id, "melanoma", "clinician", NURSE, NOTE).result()
    store.close()
    new = Tokens(tmp_path / "state/access").create(NURSE, Role.CLINICIAN, 30)
    keys = [(tmp_path / name).read_bytes() for name in ("field.key", "pseudonym.key")]
    forms = [form for key in keys for form in (key.hex(), base64.b64encode(key).decode())]
    return config, [PATIENT, NAME, WORD, NURSE, NOTE, USERNAME, new.secret, *forms]


def content(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``journal(texts)``: a journal in which somebody logged all of this."""

    def make(texts: list[str]) -> None:
        folder = tmp_path / "programs"
        folder.mkdir()
        (folder / "lines").write_text("\n".join(texts) + "\n")
        (folder / "journalctl").write_text(f"#!/bin/sh\nexec cat {folder}/lines\n")
        (folder / "journalctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return make


@pytest.mark.fault("F30")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("device", [False, True], indirect=True, ids=["plain", "sealed"])
def test_no_canary_is_in_it_even_where_the_log_holds_them(device, journal, tmp_path: Path) -> None:
    config, canaries = device
    journal(
        [f"2026-11-23 agent: here is {canary}, and {canary.upper()}." for canary in canaries]
        + [f"cannot read {tmp_path}/scope-1/{NAME} left arm.jpg", f"json {json.dumps(NOTE)} {json.dumps(NAME)}"]
        + ["https://me:canary-in-url@example/", "Authorization: Bearer canary.in.header", "mail canary@example.org"]
        + ["password=canary-assigned", "patient_id: canary-9", f"pseudonym {'ab' * 32}", "an honest line"]
    )
    packed = pack(config, tmp_path / "bundle.tar.gz")
    assert (tmp_path / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600
    texts = content(packed.path)
    assert {Path(name).name for name in texts} == set(packed.names)
    everything = "\n".join(texts.values())
    for canary in canaries:
        for form in (canary, canary.upper(), json.dumps(canary)[1:-1]):
            assert form not in everything, form
    log = texts["dermascan-support/log.txt"]
    assert "canary" not in log.lower()
    assert "ab" * 32 not in everything
    assert "an honest line" in log, "what may be seen is kept"
    assert "[folder of scope-1]/[removed]" in log
    settings = json.loads(texts["dermascan-support/settings.json"])
    assert settings["device"]["id"] == "device-1"
    figures = json.loads(texts["dermascan-support/figures.json"])
    assert figures["scans"] == [["scope-1", "rejected", None, "damaged", 1]]
    assert "model.json" in packed.names
    assert json.loads(texts["dermascan-support/model.json"])["bundle"].startswith("demo/")
    assert len(json.loads(texts["dermascan-support/doctor.json"])["findings"]) > 20


@pytest.mark.fault("F30")
def test_what_cannot_be_looked_for_is_not_packed(device, tmp_path: Path) -> None:
    config, _ = device
    (tmp_path / "password").unlink()
    (tmp_path / "password").mkdir()
    with pytest.raises(CannotPack, match=r"mqtt.password_file.*Run it as root"):
        pack(config, tmp_path / "bundle.tar.gz", checks=FAKES)
    assert not (tmp_path / "bundle.tar.gz").exists()


@pytest.mark.fault("F30")
def test_a_redactor_that_misses_something_is_noticed(device, tmp_path: Path, journal, monkeypatch) -> None:
    config, _ = device
    journal([PATIENT])
    monkeypatch.setattr(Redactor, "clean", lambda _self, text: text)
    with pytest.raises(CannotPack, match=r"log.txt.*nothing was written"):
        pack(config, tmp_path / "bundle.tar.gz", checks=FAKES)
    assert not (tmp_path / "bundle.tar.gz").exists()


def test_without_usable_settings_the_log_stays_here(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('[device]\nid = "canary secret"\n')
    packed = pack(tmp_path / "agent.toml", tmp_path / "bundle.tar.gz")
    texts = content(packed.path)
    assert "log.txt" not in packed.names
    assert "device.id" in texts["dermascan-support/doctor.txt"]
    assert "canary" not in "\n".join(texts.values())


def test_one_part_that_fails_costs_no_other(device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = device
    config.write_text(config.read_text().replace("bundle = ", 'bundle = "/none" #'))
    packed = pack(config, tmp_path / "bundle.tar.gz", checks=FAKES)
    texts = content(packed.path)
    assert texts["dermascan-support/model.json"].startswith("could not be gathered: BundleError")
    with pytest.raises(CannotPack, match="is there already"):
        pack(config, tmp_path / "bundle.tar.gz", checks=FAKES)
    with pytest.raises(CannotPack, match="cannot be written"):
        pack(config, tmp_path / "none/bundle.tar.gz", checks=FAKES)


def test_the_command(device, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = device
    real = packing.pack
    monkeypatch.setattr(packing, "pack", lambda config, to: real(config, to, checks=FAKES))
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())

    def run(*words: str) -> int:
        arguments = parser.parse_args(["support-bundle", "--config", str(config), *words])
        return int(arguments.run(arguments))

    assert run("--to", str(tmp_path / "a.tar.gz")) == 0
    assert "Look into it before you send it" in capsys.readouterr().out
    assert run("--to", str(tmp_path / "a.tar.gz")) == 1
    assert "is there already" in capsys.readouterr().err
    assert run("--json", "--to", str(tmp_path / "b.tar.gz")) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / "b.tar.gz")


def redactor(*words: str, secrets: tuple[str, ...] = ()) -> Redactor:
    return Redactor(Canaries(frozenset(secrets), frozenset(words)))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Anna Weber was here", "[removed] was here"),
        ("ANNA WEBER", "[removed]"),
        ("Hanna Weberling", "Hanna Weberling"),
        ("x=12345;", "x=[removed];"),
        ("x=123456;", "x=123456;"),
        (
            "A \N{LATIN CAPITAL LETTER I WITH DOT ABOVE} Anna Weber",
            "A \N{LATIN CAPITAL LETTER I WITH DOT ABOVE} [removed]",
        ),
        ("xs3cretx", "x[removed]x"),
    ],
)
def test_names_are_words_and_secrets_are_anywhere(text: str, clean: str) -> None:
    one = redactor("Anna Weber", "12345", "abc", secrets=("s3cret",))
    assert one.clean(text) == clean
    assert one.left(text) == (clean != text)
    assert one.left(clean) == 0


def test_many_names_and_a_long_log_take_seconds_at_most() -> None:
    import time

    words = [f"PATIENT-{number:06d}" for number in range(100_000)]
    text = "2026-11-23T10:00:00 agent: capture 17 of scope-1 was answered in 312 ms by cpu\n" * 5000
    began = time.perf_counter()
    one = redactor(*words)
    assert one.clean(text + "PATIENT-099999") == text + "[removed]"
    assert time.perf_counter() - began < 10.0
