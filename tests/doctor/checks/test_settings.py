"""Settings: each fault is a finding of its own, with what to do (F24)."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.doctor.checks.settings import CHECK
from agent.doctor.finding import Kind, Outcome
from agent.doctor.place import open_place
from tests.doctor.conftest import look

TRUSTED = ("require_trusted = false", "require_trusted = true")
SEALED = ("[store]", '[privacy]\nfield_key_file = "field.key"\n\n[store]')


def test_good_settings(make_place) -> None:
    assert look(CHECK, make_place(TRUSTED, SEALED)).ok


@pytest.mark.fault("F24")
@pytest.mark.requirement("R-SRV-5")
def test_each_fault_has_its_own_remedy(write_config) -> None:
    path = write_config(('id = "device-1"', "id = 7"), ("deadline_s = 3.0", "deadline_s = 900"), ("[store]", "[stor]"))
    told = look(CHECK, open_place(path))
    assert [one.outcome for one in told.findings] == [Outcome.FAILED] * 3
    assert "device.id = 7" in told.findings[0].sentence
    assert told.one(Outcome.FAILED, "stor").remedy.startswith("remove it or mend its spelling")


@pytest.mark.parametrize("content", ["[device", "\xff"])
def test_what_is_no_toml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content.encode("latin-1"))
    assert look(CHECK, open_place(path)).one(Outcome.FAILED)


def test_missing_settings(tmp_path: Path) -> None:
    finding = look(CHECK, open_place(tmp_path / "none.toml")).one(Outcome.FAILED)
    assert "cannot be read" in finding.sentence
    assert "--config" in finding.remedy


def test_settings_that_everybody_may_change(make_place) -> None:
    place = make_place(TRUSTED)
    place.config_file.chmod(0o646)
    finding = look(CHECK, place).one(Outcome.FAILED, "Everybody on this machine may change")
    assert f"chmod 644 {place.config_file}" in finding.remedy
    assert finding.mend is not None
    assert (finding.mend.kind, finding.mend.mode) == (Kind.CHMOD, 0o644)


def test_what_is_allowed_and_not_for_patients(make_place) -> None:
    mqtt = ("[store]", '[mqtt]\nhost = "broker.example"\nallow_insecure = true\n\n[store]')
    told = look(CHECK, make_place(mqtt, ('ladder = ["cpu"]', 'ladder = ["cpu", "tensorrt"]')))
    assert len(told.sentences(Outcome.WARNING)) == 4
    assert told.one(Outcome.WARNING, "not encrypted")
    assert told.one(Outcome.WARNING, '"tensorrt"')


@pytest.mark.requirement("R-PAT-2")
def test_without_a_field_key_patients_lie_there_for_all_to_read(make_place) -> None:
    finding = look(CHECK, make_place(TRUSTED)).one(Outcome.WARNING)
    assert "names patients lies unencrypted" in finding.sentence
    assert "field_key_file under [privacy]" in finding.remedy
