"""A patient who asks for it is forgotten in every file, and what must stay stays (GDPR, article 17)."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.records.audit_reading import verify
from agent.records.erasures import erased
from agent.records.keeping.backup import backup
from agent.records.keeping.erasing import erase, finish_scrubbing
from agent.records.keeping.patients import captures_of, scans_of
from agent.records.reading import list_scans, open_reading
from agent.records.results import write_results
from agent.records.sealing import PLAIN, Seal
from agent.records.sidecars import read_kept_sidecar, sidecar_bytes
from agent.records.store import ClaimOutcome, Store

CANARY = "CANARY-7731"
OTHER = "CANARY-OTHER"
KEYS = {"plain": PLAIN, "sealed": Seal([bytes(range(32))])}


@pytest.fixture(params=KEYS)
def seal(request) -> Seal:
    return KEYS[request.param]


@pytest.fixture
def store(state_dir, seal):
    with Store.open(state_dir, "device-1", 256, clinic_id="c", software_version="9", seal=seal) as opened:
        yield opened


@pytest.fixture
def captures(tmp_path) -> Path:
    folder = tmp_path / "scope"
    folder.mkdir()
    return folder


@pytest.fixture
def filled(store, claim, answer_json, state_dir, captures):
    """Forty scans of two patients with everything that hangs on them, in rows that grew and shrank."""
    chance = random.Random(4)
    for number in range(40):
        patient = CANARY if number % 4 == 1 else OTHER
        path = captures / f"{patient}-{number}.jpg"
        path.write_bytes(b"picture")
        scan_id = claim(store, str(number), str(path)).scan_id
        size = chance.randrange(10, 9000)
        answer = json.loads(answer_json(scan_id, attention_bytes=size)) | {"patient_id": patient}
        store.answer(scan_id, json.dumps(answer), "cpu", {"patient_id": patient, "age": "7"}).result(10)
        store.verdict(scan_id, "melanoma", "clinician", "Kim", f"{patient} was here").result(10)
        store.add_metadata(scan_id, {"patient_id": patient, "body_site": "x" * chance.randrange(60)}).result(10)
        write_results(store.results_folder, scan_id, store.result_bytes(scan_id), b"overlay")
        store.files_written(scan_id).result(10)
    return store


def files_with(folder: Path, word: str) -> list[str]:
    return [str(file) for file in folder.rglob("*") if file.is_file() and word.encode() in file.read_bytes()]


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-PAT-3")
def test_no_file_holds_the_patient_any_more_and_the_others_are_whole(filled, state_dir, seal, claim, captures):
    ids = scans_of(state_dir, CANARY, seal)
    assert len(ids) == 10
    if seal is PLAIN:
        assert files_with(state_dir, CANARY), "so that this can fail"
    done = erase(filled, state_dir, None, CANARY, "Kim")
    assert (done.scans, done.unfinished, done.scrubbed) == (10, 0, True)
    assert files_with(state_dir, CANARY) == []
    assert scans_of(state_dir, CANARY, seal) == []
    assert len(scans_of(state_dir, OTHER, seal)) == 30
    assert erased(state_dir) == ids
    with open_reading(state_dir, seal) as db:
        for scan_id, kept, result, path, metadata in db.execute(
            "SELECT scan_id, kept, result, path, metadata FROM scans"
        ):
            content = json.loads(result)
            assert content["diagnosis"]["primary"] == "melanoma", "which model answered what stays"
            if scan_id in ids:
                assert (kept, content["patient_id"], content["attention_map"], path, metadata) == (
                    "erased",
                    None,
                    "",
                    "erased",
                    "{}",
                )
            else:
                assert (kept, content["patient_id"], json.loads(metadata)["patient_id"]) == ("whole", OTHER, OTHER)
    assert [one.diagnosis for one in filled.verdicts(ids[0])] == ["melanoma"], "and what was decided"
    assert [one.note for one in filled.verdicts(ids[0])] == [None]
    assert filled.counts().answered == 40
    assert verify(state_dir).whole
    filled.close()
    assert files_with(state_dir, CANARY) == []


def test_it_is_audited_without_the_patient(filled, state_dir):
    erase(filled, state_dir, None, CANARY, "Kim")
    with open_reading(state_dir) as db:
        who, role, detail = db.execute("SELECT who, role, detail FROM audit WHERE action = 'erase'").fetchone()
    assert (who, role, json.loads(detail)) == ("Kim", "shell", {"scans": 10, "exported_files": 0, "databases": 0})


@pytest.mark.requirement("R-PAT-3")
def test_the_picture_is_still_known_and_names_nobody_when_it_comes_again(filled, state_dir, claim, captures):
    number = 1
    path = captures / f"{CANARY}-{number}.jpg"
    erase(filled, state_dir, None, CANARY, "Kim")
    again = claim(filled, str(number), str(path))
    assert again.outcome is ClaimOutcome.KNOWN
    assert filled.add_metadata(again.scan_id, {"patient_id": CANARY}).result(10) is False
    assert not any(one.unnamed for one in filled.scans_at(path.with_suffix("")))
    filled.close()
    assert files_with(state_dir, CANARY) == []


def test_the_clinics_own_captures_are_named_and_left(filled, state_dir, captures, seal):
    ids = scans_of(state_dir, CANARY, seal)
    assert captures_of(state_dir, ids) == sorted(captures.glob(f"{CANARY}-*.jpg"))
    erase(filled, state_dir, None, CANARY, "Kim")
    assert len(list(captures.glob(f"{CANARY}-*.jpg"))) == 10


@pytest.mark.requirement("R-PAT-3")
def test_uploads_go_with_their_sidecars_also_of_refused_pictures(store, state_dir, claim, answer_json, seal):
    from agent.intake.reasons import Reason

    folder = state_dir / "uploads" / "api"
    folder.mkdir(parents=True)
    for name in ("answered", "refused", "waiting"):
        picture = folder / f"{name}.jpg"
        picture.write_bytes(b"picture")
        picture.with_suffix(".json").write_bytes(sidecar_bytes({"patient_id": CANARY}, name, seal))
        assert read_kept_sidecar(picture, seal).patient_id == CANARY
        if seal is not PLAIN:
            assert CANARY.encode() not in picture.with_suffix(".json").read_bytes()
        scan_id = claim(store, name, str(picture)).scan_id
        if name == "answered":
            store.answer(scan_id, answer_json(scan_id), "cpu", {"patient_id": CANARY}).result(10)
        elif name == "refused":
            store.reject(scan_id, Reason.GONE, "It is gone.").result(10)
    done = erase(store, state_dir, None, f" {CANARY} ", "Kim")
    assert (done.scans, done.unfinished) == (2, 1), "a capture that is not answered is not touched, and is said"
    assert sorted(file.name for file in folder.iterdir()) == ["waiting.jpg", "waiting.json"]


@pytest.mark.requirement("R-PAT-3")
def test_exported_files_and_databases_put_aside_go(filled, state_dir, tmp_path, seal):
    folder = tmp_path / "export"
    folder.mkdir()
    mine, other = scans_of(state_dir, CANARY, seal)[0], scans_of(state_dir, OTHER, seal)[0]
    for scan_id in (mine, other):
        (folder / f"{scan_id}.json").write_text(CANARY)
    for aside in ("quarantine/1", "quarantine/2", "replaced/1"):
        (state_dir / aside).mkdir(parents=True)
        (state_dir / aside / "dermascan.db").write_text(CANARY)
    (state_dir / "quarantine" / "1" / "SALVAGED").write_text("1 scan")
    done = erase(filled, state_dir, folder, CANARY, "Kim")
    assert (done.exported_files, done.databases) == (1, 2)
    assert [file.name for file in folder.iterdir()] == [f"{other}.json"]
    assert [path.parent.name for path in state_dir.glob("*/*/dermascan.db")] == ["2"], "what is not carried over stays"


def test_asked_again_nothing_more_happens_and_an_unknown_patient_is_none(filled, state_dir):
    assert erase(filled, state_dir, None, "P-NOBODY", "Kim").scans == 0
    erase(filled, state_dir, None, CANARY, "Kim")
    assert erase(filled, state_dir, None, CANARY, "Kim").scans == 0
    assert len(erased(state_dir)) == 10


@pytest.mark.fault("F08")
def test_a_reader_puts_the_end_off_and_no_more(filled, state_dir, seal):
    with closing(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM scans").fetchone()
        assert erase(filled, state_dir, None, CANARY, "Kim").scrubbed is False
        finish_scrubbing(filled)
        reader.execute("ROLLBACK")
    finish_scrubbing(filled)
    assert files_with(state_dir, CANARY) == []
    assert (state_dir / "dermascan.db-wal").stat().st_size < 1_000_000


@pytest.mark.fault("F10")
@pytest.mark.requirement("R-PAT-3")
def test_a_damaged_database_brings_no_erased_patient_back(filled, state_dir, seal):
    """The row as it was may lie in some page still: what was erased is erased in what is salvaged."""
    copy = state_dir.parent / "copy"
    backup(state_dir, copy)
    erase(filled, state_dir, None, CANARY, "Kim")
    filled.close()
    old = next(copy.glob("*.db"))
    shutil.copyfile(old, state_dir / "dermascan.db")
    with (state_dir / "dermascan.db").open("r+b") as file:
        file.write(b"\xa5" * 30)
    with Store.open(state_dir, "device-1", 256, clinic_id="c", software_version="9", seal=seal) as store:
        assert store.counts().answered == 40
        assert scans_of(state_dir, CANARY, seal) == []
        assert len(scans_of(state_dir, OTHER, seal)) == 30


def test_an_answer_without_its_patient_is_still_one(filled, state_dir):
    """Whoever reads answers must be able to read these."""
    from agent.answer.scan import Answer

    erase(filled, state_dir, None, CANARY, "Kim")
    for row in list_scans(state_dir):
        assert row.result is not None
        Answer.model_validate(row.result)
