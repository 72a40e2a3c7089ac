"""``dermascan token`` and ``dermascan audit``, with the agent and without."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agent.access import commands
from agent.access.files import AccessError
from agent.access.tokens import Identity, Refusal, Role, Tokens
from agent.records import feedback_command
from agent.records.audit_reading import rows_since
from agent.records.spool import SPOOL, Spool, waiting
from agent.records.store import AuditAction, Store

Run = Callable[..., int]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def run(state_dir: Path, tmp_path: Path) -> Run:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[device]\nid = "device-1"\nclinic_id = "clinic-1"\nstate_dir = "{state_dir}"\n'
        f'[[dermoscope]]\nid = "scope-1"\nfolder = "{tmp_path / "scope"}"\n'
        f'[inference]\nbundle = "{tmp_path / "bundle"}"\n'
    )

    def run_it(*words: str) -> int:
        parser = argparse.ArgumentParser()
        commands.register(parser.add_subparsers())
        arguments = parser.parse_args([*words, "--config", str(config)])
        code: int = arguments.run(arguments)
        return code

    return run_it


@pytest.fixture
def store(state_dir: Path) -> Iterator[Store]:
    opened = Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9")
    yield opened
    opened.close()


@pytest.fixture
def agent(store: Store, state_dir: Path) -> Iterator[Store]:
    """What of the agent takes up the spool, as it runs in the daemon."""
    stop = threading.Event()
    spool = Spool(store, state_dir, stop)
    spool.start()
    yield store
    stop.set()
    spool.join()


def make(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run("token", "create", "--role", "clinician", "--name", "Dr Kim", "--expires-days", "0", *words) == 0
    return capsys.readouterr().out.strip()


@pytest.mark.usefixtures("agent")
def test_a_token_is_made_listed_and_revoked_with_the_agent_running(run, state_dir, capsys):
    secret = make(run, capsys)
    agent_side = Tokens(state_dir / "access")
    found = agent_side.authenticate(secret, datetime.now(timezone.utc))
    assert isinstance(found, Identity)
    assert (found.name, found.role) == ("Dr Kim", Role.CLINICIAN)
    assert run("token", "list") == 0
    out = capsys.readouterr().out
    assert found.token_id in out
    assert "valid" in out
    assert secret not in out
    assert run("token", "revoke", found.token_id) == 0
    assert agent_side.authenticate(secret, datetime.now(timezone.utc)) is Refusal.REVOKED
    rows = list(rows_since(state_dir))
    assert [(row.action, row.who, row.role, row.subject) for row in rows] == [
        (action, commands.who_asks(), "shell", found.token_id) for action in ("token-created", "token-revoked")
    ]
    assert json.loads(rows[0].detail) == {"role": "clinician", "holder": "Dr Kim", "expires_at": None}
    assert secret not in str(rows)


def test_without_the_agent_a_token_works_at_its_start_and_is_audited_then(run, state_dir, capsys):
    secret = make(run, capsys)
    assert waiting(state_dir) == (1, 0)
    assert all(secret.encode() not in path.read_bytes() for path in state_dir.rglob("*") if path.is_file())
    with Store.open(state_dir, "device-1", 256, clinic_id="c", software_version="9") as store:
        Spool(store, state_dir, threading.Event()).take_up()
        assert store.audit_head()[0] == 1
    assert isinstance(Tokens(state_dir / "access").authenticate(secret, datetime.now(timezone.utc)), Identity)


def test_the_token_alone_is_on_the_standard_output(run, capsys):
    assert run("token", "create", "--role", "integration", "--name", "robot", "--expires-days", "0") == 0
    out, words = capsys.readouterr()
    assert out.startswith("dse_")
    assert len(out.split()) == 1
    assert "for robot (integration), until it is revoked. Shown only now" in words
    token = json.loads(make(run, capsys, "--json"))
    assert token["token"].startswith("dse_")
    assert token["audited"] is False


def test_the_list_as_json_holds_no_hash(run, capsys, state_dir):
    make(run, capsys)
    assert run("token", "list", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert set(json.loads(line)) == {
        "token_id", "name", "role", "state", "created_at", "expires_at", "revoked_at", "revoked_by",
    }  # fmt: skip
    (kept,) = Tokens(state_dir / "access").list()
    assert kept.sha256 not in line


def test_no_tokens(run, capsys):
    assert run("token", "list") == 0
    assert "no tokens" in capsys.readouterr().out


def test_what_cannot_be_done_is_said(run, capsys, state_dir):
    assert run("token", "revoke", "0123") == 1
    assert "there is no token 0123" in capsys.readouterr().err
    assert run("token", "create", "--role", "clinician", "--name", " ", "--expires-days", "0") == 1
    assert "1 to 100 printable" in capsys.readouterr().err
    make(run, capsys)
    (state_dir / "access" / "tokens.json").chmod(0o644)
    for words in (["list"], ["revoke", "0123"]):
        assert run("token", *words) == 1
        assert "chmod 600" in capsys.readouterr().err
    for wrong in ("admin", "Clinician"):
        with pytest.raises(SystemExit):
            run("token", "create", "--role", wrong, "--name", "x")


@pytest.mark.fault("F16")
def test_on_a_clock_in_1970_no_token_is_made_that_ends(run, capsys, monkeypatch):
    monkeypatch.setattr("agent.access.tokens._now", lambda: datetime(1970, 1, 1, tzinfo=timezone.utc))
    assert run("token", "create", "--role", "clinician", "--name", "Dr Kim") == 1
    assert "--expires-days 0" in capsys.readouterr().err
    make(run, capsys)


def test_a_token_whose_making_cannot_be_audited_lets_nobody_in(run, capsys, state_dir):
    state_dir.mkdir()
    (state_dir / SPOOL).write_text("in the way")
    assert run("token", "create", "--role", "clinician", "--name", "Dr Kim", "--expires-days", "0") == 1
    assert capsys.readouterr().out == ""
    assert [token.revoked_by for token in Tokens(state_dir / "access").list()] == ["its making could not be audited"]


def test_a_token_is_revoked_even_where_that_cannot_be_audited(run, capsys, state_dir, monkeypatch):
    secret = make(run, capsys)
    tokens = Tokens(state_dir / "access")

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(commands, "hand_over", full)
    assert run("token", "revoke", tokens.list()[0].token_id) == 1
    assert tokens.authenticate(secret, datetime.now(timezone.utc)) is Refusal.REVOKED


def test_an_agent_that_does_not_get_to_it_is_not_waited_for_for_ever(run, capsys, store, monkeypatch):
    monkeypatch.setattr(feedback_command, "WAIT_S", 0.2)
    assert json.loads(make(run, capsys, "--json"))["audited"] is False


def test_names_of_other_bytes_are_kept_as_unknown(run, capsys):
    assert run("token", "create", "--role", "clinician", "--name", "Dr \udcff", "--expires-days", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Dr \ufffd"


# The audit


@pytest.fixture
def filled(store: Store) -> str:
    for who in ("Dr Kim", "=HYPERLINK(1)", "Dr Müller"):
        store.audit(AuditAction.SIGN_IN, who, "clinician", None, {"way": "page"}).result(10)
    return store.audit_head()[1]


def test_a_whole_audit_is_verified_with_its_head(run, capsys, filled):
    assert run("audit", "verify") == 0
    out = capsys.readouterr().out
    assert out.startswith("whole: 3 rows\n")
    assert f"head: {filled}  (row 3)" in out
    assert run("audit", "verify", "--head", filled.upper()) == 0
    capsys.readouterr()
    assert run("audit", "verify", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "whole": True,
        "rows": 3,
        "head": {"seq": 3, "hash": filled},
        "faults": [],
        "more_faults": 0,
    }


def test_the_first_wrong_row_is_named(run, capsys, filled, state_dir):
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        db.execute("DROP TRIGGER audit_stays_as_it_is")
        db.execute("UPDATE audit SET who = 'nobody' WHERE seq >= 2")
        db.commit()
    assert run("audit", "verify") == 2
    out = capsys.readouterr().out
    assert out.startswith("first wrong  row 2: its content is not what was written")
    assert "NOT WHOLE: 3 rows" in out
    assert run("audit", "verify", "--json") == 2
    assert [fault["seq"] for fault in json.loads(capsys.readouterr().out)["faults"]] == [2, 3]


def test_a_head_that_is_not_in_there_is_a_fault(run, capsys, filled):
    assert run("audit", "verify", "--head", "0123456789abcdef" * 4) == 2
    assert "written anew" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("audit", "verify", "--head", "abc")


def test_without_a_database_there_is_nothing_to_verify(run, capsys):
    assert run("audit", "verify") == 1
    assert run("audit", "export") == 1
    assert "there is no database yet" in capsys.readouterr().err


def test_the_export_is_json_or_csv(run, capsys, filled):
    for words in ([], ["--json"]):
        assert run("audit", "export", *words) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["who"] for row in rows] == ["Dr Kim", "=HYPERLINK(1)", "Dr Müller"]
        assert rows[-1]["hash"] == filled
    assert run("audit", "export", "--csv") == 0
    cells = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["who"] for row in cells] == ["Dr Kim", "'=HYPERLINK(1)", "Dr Müller"], "no formula for a spreadsheet"
    assert json.loads(cells[0]["detail"]) == {"way": "page"}


def test_the_export_begins_where_it_is_told(run, capsys, filled):
    for since, count in (("2000-01-01", 3), ("2000-01-01T08:00:00Z", 3), ("2999-01-01T00:00+01:00", 0)):
        assert run("audit", "export", "--since", since) == 0
        assert len(capsys.readouterr().out.splitlines()) == count
    for wrong in ("yesterday", "31.12.2026"):
        with pytest.raises(SystemExit):
            run("audit", "export", "--since", wrong)


def test_who_asks_is_who_logged_in(monkeypatch):
    assert commands.who_asks()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "4294967295")
    assert commands.who_asks() == commands._user(commands.os.getuid())
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "54321")
    assert commands.who_asks().startswith("uid 54321 (as ")


def test_a_lock_that_is_not_given_back_is_said(run, capsys, state_dir, monkeypatch):
    from agent.access.files import locked

    monkeypatch.setattr("agent.access.files.LOCK_TIMEOUT_S", 0.1)
    with locked(state_dir / "access"), pytest.raises(AccessError, match="another command writes there"):
        Tokens(state_dir / "access").create("x", Role.CLINICIAN)
