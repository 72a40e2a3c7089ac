"""Patient fields at rest: sealed where there is a key, bound to their row, read with it, and nowhere in the clear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import ConfigError
from agent.intake.reasons import Reason
from agent.records import listing, orders, spool
from agent.records.keeping import erasing
from agent.records.keeping.backup import backup
from agent.records.keeping.files import write_again
from agent.records.keeping.patients import export, scans_of
from agent.records.reading import find_scan, list_scans, open_reading
from agent.records.results import write_results
from agent.records.sealed_rows import point_to, seal_of
from agent.records.sealing import PLAIN, SEALED, Seal, read_seal
from agent.records.store import Store

CANARY = "CANARY-PATIENT"
NOTE = "CANARY-NOTE of somebody"
ABOUT = {"patient_id": CANARY, "body_site": "CANARY-SITE", "age": "77"}
ONE, TWO = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def open_sealed(state_dir):
    opened: list[Store] = []

    def open_it(seal: Seal) -> Store:
        opened.append(Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9", seal=seal))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def key_file(tmp_path) -> Path:
    path = tmp_path / "field.key"
    path.write_bytes(ONE)
    path.chmod(0o600)
    return path


@pytest.fixture
def fill(claim, answer_json):
    """An answered scan with a patient and a note, one without, and a refused one; their files; the first one's id."""

    def make(store: Store, name: str = "a") -> str:
        scan_id = claim(store, name).scan_id
        store.answer(scan_id, answer_json(scan_id), "cpu", ABOUT).result(10)
        store.verdict(scan_id, "melanoma", "clinician", "Kim", NOTE).result(10)
        other = claim(store, f"{name}-nobody").scan_id
        nobody = json.dumps(json.loads(answer_json(other)) | {"patient_id": None})
        store.answer(other, nobody, "cpu").result(10)
        refused = claim(store, f"{name}-refused").scan_id
        store.reject(refused, Reason.GONE, "It is gone.").result(10)
        for one in (scan_id, other, refused):
            write_results(store.results_folder, one, store.result_bytes(one), None)
            store.files_written(one).result(10)
        return scan_id

    return make


def files_with(folder: Path, *words: str) -> list[str]:
    """Every file below a folder that holds one of the words."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    )


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-PAT-2")
def test_no_file_holds_a_patient_field(open_sealed, fill, state_dir):
    store = open_sealed(Seal([ONE]))
    scan_id = fill(store)
    store.add_metadata(scan_id, {"patient_id": CANARY, "sex": "female"}).result(10)
    spool.place(state_dir, orders.EraseOrder(id="1", patient_id=CANARY, who="Kim"))
    assert files_with(state_dir, CANARY) == ["spool/" + next((state_dir / "spool").iterdir()).name], "no key at hand"
    for file in (state_dir / "spool").iterdir():
        file.unlink()
    backup(state_dir, state_dir / "backups")
    assert files_with(state_dir, CANARY, NOTE, "CANARY-SITE") == []
    store.close()
    assert files_with(state_dir, CANARY, NOTE, "CANARY-SITE") == []
    assert files_with(state_dir, "melanoma"), "the rest can be read"


@pytest.mark.requirement("R-PAT-2")
def test_who_may_read_the_key_reads_as_before(open_sealed, fill, state_dir, key_file):
    point_to(_made(state_dir), key_file)
    store = open_sealed(read_seal(key_file))
    scan_id = fill(store)
    kept = find_scan(state_dir, scan_id)
    assert kept is not None
    assert kept.result is not None
    assert kept.result["patient_id"] == CANARY
    assert [row.result["patient_id"] for row in list_scans(state_dir) if row.state == "answered"] == [CANARY, None]
    with open_reading(state_dir) as db:
        (first,) = [one for one in listing.newest(db, 10) if one.scan_id == scan_id]
    assert (first.patient_id, first.metadata) == (CANARY, ABOUT)
    assert first.verdict is not None
    assert first.verdict.note == NOTE
    assert [one.note for one in store.verdicts(scan_id)] == [NOTE]
    assert json.loads(store.result_json(scan_id) or "")["patient_id"] == CANARY
    assert SEALED.fullmatch(json.loads(store.result_bytes(scan_id))["patient_id"])


@pytest.mark.requirement("R-PAT-2")
def test_the_running_agent_reads_what_was_sealed_after_its_first_look(open_sealed, fill):
    store = open_sealed(Seal([ONE]))
    with store.reading() as db:
        assert listing.newest(db, 10) == []
    scan_id = fill(store)
    with store.reading() as db:
        first = listing.one(db, scan_id)
        (raw,) = db.execute("SELECT metadata FROM main.scans WHERE scan_id = ?", (scan_id,)).fetchone()
    assert first is not None
    assert (first.patient_id, first.metadata) == (CANARY, ABOUT)
    assert CANARY not in raw


@pytest.mark.requirement("R-PAT-2")
def test_who_may_not_reads_all_but_the_patient(open_sealed, fill, state_dir):
    store = open_sealed(Seal([ONE]))
    scan_id = fill(store)
    kept = find_scan(state_dir, scan_id)
    assert kept is not None
    assert kept.result is not None
    assert (kept.result["patient_id"], kept.result["diagnosis"]["primary"]) == (None, "melanoma")
    with open_reading(state_dir) as db:
        first = listing.one(db, scan_id)
    assert first is not None
    assert (first.patient_id, first.metadata) == (None, {})
    assert first.verdict is not None
    assert first.verdict.note is None


def test_a_field_is_bound_to_its_row_and_to_what_it_is(open_sealed, claim, answer_json, caplog):
    seal = Seal([ONE])
    sealed = seal.seal(CANARY, "scan-1", "patient_id")
    assert seal.open(sealed, "scan-1", "patient_id") == CANARY
    assert seal.open(sealed, "scan-2", "patient_id") is None
    assert seal.open(sealed, "scan-1", "note") is None
    assert seal.open(sealed[:-2] + ("AA" if sealed[-2:] != "AA" else "BB"), "scan-1", "patient_id") is None
    assert Seal([TWO]).open(sealed, "scan-1", "patient_id") is None
    assert CANARY not in caplog.text
    store = open_sealed(seal)
    ids = [claim(store, name).scan_id for name in "ab"]
    for scan_id in ids:
        store.answer(scan_id, answer_json(scan_id), "cpu", {"patient_id": f"{CANARY} {scan_id}"}).result(10)
    swap = "UPDATE scans SET metadata = (SELECT metadata FROM scans WHERE scan_id = ?) WHERE scan_id = ?"
    store.change(lambda db: db.execute(swap, ids)).result(10)
    assert (
        store.look(
            lambda db: seal.open_metadata(
                db.execute("SELECT metadata FROM scans WHERE scan_id = ?", (ids[1],)).fetchone()[0], ids[1]
            )
        )
        == {}
    )


def test_every_sealing_is_another():
    seal = Seal([ONE])
    sealed = {seal.seal(CANARY, "scan", "note") for _ in range(1000)}
    assert len(sealed) == 1000
    assert len({text[22:38] for text in sealed}) == 1000, "96 bits of chance each"


def test_the_same_patient_however_it_is_written_and_nobody_else():
    seal = Seal([TWO, ONE])
    assert seal.index(" M\u00fcller ") == seal.index("Mu\u0308ller")
    assert seal.index("Muller") != seal.index("M\u00fcller")
    assert seal.index("  ") is None
    assert Seal([ONE]).index(CANARY) in seal.indexes(CANARY)
    assert seal.index(CANARY) != Seal([ONE]).index(CANARY)


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-PAT-2")
def test_what_was_written_before_there_was_a_key_is_sealed_and_leaves_nothing_in_the_clear(
    open_store, open_sealed, fill, state_dir
):
    plain = open_store()
    ids = [fill(plain, str(number)) for number in range(30)]
    plain.close()
    assert files_with(state_dir, CANARY), "so that this can fail"
    store = open_sealed(Seal([ONE]))
    while (some := store.seal_some(7).result(10)).more or some.done:
        write_again(store, some.rewrite)
    erasing.scrub(store)
    assert files_with(state_dir, CANARY, NOTE, "CANARY-SITE") == []
    assert [row.scan_id for row in store.without_files()] == []
    assert scans_of(state_dir, CANARY, store.seal) == ids


def test_another_key_and_the_old_one_is_needed_no_more(open_sealed, fill, state_dir):
    old = open_sealed(Seal([ONE]))
    before = fill(old, "before")
    old.close()
    store = open_sealed(Seal([TWO, ONE]))
    after = fill(store, "after")
    assert scans_of(state_dir, CANARY, store.seal) == [before, after], "each under its own key's index"
    while store.seal_some(2).result(10).done:
        pass
    store.close()
    store = open_sealed(Seal([TWO]))
    assert scans_of(state_dir, CANARY, store.seal) == [before, after]
    assert [one.note for one in store.verdicts(before)] == [NOTE]
    assert json.loads(store.result_json(before) or "")["patient_id"] == CANARY


def test_without_its_key_the_agent_does_not_start_and_says_what_to_do(open_sealed, open_store, fill):
    store = open_sealed(Seal([ONE]))
    fill(store)
    store.close()
    for seal in (PLAIN, Seal([TWO])):
        with pytest.raises(ConfigError, match=rf"sealed with key {Seal([ONE]).key_id}.*put that file back.*--lost"):
            open_sealed(seal)
    assert open_sealed(Seal([TWO, ONE])).counts().answered == 2


def test_a_tampered_field_stays_as_it_is_when_keys_change(open_sealed, fill, state_dir):
    store = open_sealed(Seal([ONE]))
    scan_id = fill(store)
    broken = store.look(lambda db: db.execute("SELECT metadata FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()[0])
    broken = broken[:60] + ("A" if broken[60] != "A" else "B") + broken[61:]
    store.change(lambda db: db.execute("UPDATE scans SET metadata = ? WHERE scan_id = ?", (broken, scan_id))).result(10)
    store.close()
    store = open_sealed(Seal([TWO, ONE]))
    while store.seal_some(50).result(10).done:
        pass
    again = store.look(lambda db: db.execute("SELECT metadata FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()[0])
    assert again == broken, "whoever looks into it finds it"


def test_no_event_and_no_audit_row_holds_a_sealed_field(open_sealed, fill):
    store = open_sealed(Seal([ONE]))
    fill(store)
    for row in store.outbox_due(100, fresh_after_seq=0):
        assert b"dse1:" not in row.event
        assert CANARY.encode() not in row.event


@pytest.mark.fault("F10")
def test_a_salvage_keeps_sealed_rows(open_sealed, fill, state_dir):
    store = open_sealed(Seal([ONE]))
    scan_id = fill(store)
    store.close()
    with (state_dir / "dermascan.db").open("r+b") as file:
        file.write(b"\xa5" * 40)
    store = open_sealed(Seal([ONE]))
    assert scans_of(state_dir, CANARY, store.seal) == [scan_id]
    assert [one.note for one in store.verdicts(scan_id)] == [NOTE]


@pytest.mark.requirement("R-PAT-2")
def test_what_lies_in_the_spool_is_sealed_and_done_all_the_same(open_sealed, fill, state_dir, key_file):
    import threading

    state_dir = _made(state_dir)
    point_to(state_dir, key_file)
    store = open_sealed(read_seal(key_file))
    scan_id = fill(store)
    at = "2026-12-01T00:00:00.000Z"
    path = spool.place(
        state_dir,
        orders.VerdictOrder(id="v", scan_id=scan_id, diagnosis="melanoma", source="clinician", note=NOTE, given_at=at),
    )
    assert NOTE.encode() not in path.read_bytes()
    assert spool.Spool(store, state_dir, threading.Event()).take_up() == 1
    assert [one.note for one in store.verdicts(scan_id)] == [NOTE, NOTE]
    moved = spool.place(state_dir, orders.RetryOrder(id="r", event_id=None))
    moved.write_bytes(path.name.encode())
    assert spool.Spool(store, state_dir, threading.Event()).take_up() == 0


@pytest.mark.requirement("R-PAT-3")
def test_everything_of_a_patient_is_exported_in_the_clear(open_sealed, fill, state_dir, key_file, tmp_path):
    import zipfile

    point_to(_made(state_dir), key_file)
    store = open_sealed(read_seal(key_file))
    fill(store)
    target = tmp_path / "out.zip"
    assert export(state_dir, scans_of(state_dir, CANARY, store.seal), target, store.seal) == 1
    assert target.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(target) as archive:
        (scan,) = json.loads(archive.read("scans.json"))["scans"]
    assert scan["metadata"] == ABOUT
    assert scan["result"]["patient_id"] == CANARY
    assert scan["verdicts"][0]["note"] == NOTE


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0, "there is no such file"),
        (b"", 0o600, "neither 32 random bytes nor lines"),
        (b"short", 0o600, "neither"),
        (bytes(32), 0o600, "neither"),
        (b"00" * 32 + b"\n", 0o600, "neither"),
        (ONE.hex().encode() + b"\nzz\n", 0o600, "neither"),
        (ONE, 0o604, "everybody on this machine may open it (mode 0604)"),
        (ONE, 0o602, "everybody"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused_with_the_remedy(tmp_path, content, mode, said):
    path = tmp_path / "field.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigError) as refused:
        read_seal(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert ONE.hex() not in str(refused.value)


def test_a_key_file_of_lines_seals_with_the_first(tmp_path):
    path = tmp_path / "field.key"
    path.write_text(f"# why\n{TWO.hex()}  # new\n\n{ONE.hex()}\n")
    path.chmod(0o640)
    seal = read_seal(path)
    assert seal.key_id == Seal([TWO]).key_id
    assert seal.key_ids == {Seal([ONE]).key_id, Seal([TWO]).key_id}


def test_who_cannot_read_the_key_file_gets_a_reader_that_shows_nothing(state_dir, tmp_path):
    point_to(_made(state_dir), tmp_path / "nowhere")
    assert seal_of(state_dir).key_id is None
    point_to(state_dir, None)
    assert not (state_dir / "field-key").exists()


def test_what_a_person_writes_is_never_taken_for_sealed(open_store, claim, answer_json):
    """Without a key a note may look like a sealed one: the agent must start all the same."""
    store = open_store()
    scan_id = claim(store).scan_id
    store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
    store.verdict(scan_id, "melanoma", "clinician", "Kim", f"dse1:{'0' * 16}:{'A' * 60}").result(10)
    store.close()
    assert open_store().counts().answered == 1


@pytest.mark.requirement("R-PAT-2")
def test_the_bytes_are_those_of_aes_gcm():
    """Opened with nothing of ours but the agreed form: HKDF and AES-256-GCM of `cryptography`."""
    import base64

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    sealed = Seal([ONE]).seal(CANARY, "scan-1", "metadata")
    data = base64.urlsafe_b64decode(sealed.rpartition(":")[2] + "==")
    key = HKDF(SHA256(), 32, None, b"dermascan patient fields").derive(ONE)
    assert AESGCM(key).decrypt(data[:12], data[12:], b"scan-1\0metadata").decode() == CANARY


def _made(state_dir: Path) -> Path:
    state_dir.mkdir(parents=True, exist_ok=True)
    return state_dir


def test_only_what_was_in_the_clear_asks_for_the_database_to_be_written_anew(open_store, open_sealed, fill, claim):
    from agent.intake.reasons import Reason

    plain = open_store()
    fill(plain)
    plain.close()
    store = open_sealed(Seal([ONE]))
    first = store.seal_some(100).result(10)
    assert (first.done, first.clear) == (4, 2), "a scan and a note; neither nobody's scan nor the refused one"
    store.reject(claim(store, "later").scan_id, Reason.GONE, "It is gone.").result(10)
    again = store.seal_some(100).result(10)
    assert (again.done, again.clear) == (1, 0)
