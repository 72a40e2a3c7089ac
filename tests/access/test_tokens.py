"""Who comes with which secret; and that a file which says so is believed only when nobody else can have written it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.access.files import AccessError
from agent.access.tokens import LAST_TIME, MOST_TOKENS, TOKENS, Identity, Refusal, Role, Tokens, hash_of

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = datetime(2027, 1, 1, 12, tzinfo=timezone.utc)
IN_1970 = datetime(1970, 1, 1, 0, 3, tzinfo=timezone.utc)


@pytest.fixture
def tokens(folder: Path) -> Tokens:
    return Tokens(folder)


@pytest.mark.requirement("R-SEC-2")
def test_a_secret_is_256_random_bits_and_only_its_hash_is_kept(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, 30, NOW)
    assert new.secret.startswith("dse_")
    assert len(base64.urlsafe_b64decode(new.secret.removeprefix("dse_") + "=")) == 32
    assert new.secret not in (folder / TOKENS).read_text()
    assert hash_of(new.secret) in (folder / TOKENS).read_text()
    assert (folder / TOKENS).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert hash_of(new.secret) not in repr(tokens.list()[0])
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [TOKENS]
    assert tokens.authenticate(new.secret, NOW) == Identity(new.token_id, "Dr Kim", Role.CLINICIAN)


@pytest.mark.requirement("R-SEC-1")
def test_who_is_let_in_and_who_not(tokens):
    day = timedelta(days=1)
    kim = tokens.create("Dr Kim", Role.CLINICIAN, 30, NOW)
    robot = tokens.create("robot", Role.INTEGRATION, None, NOW)
    assert tokens.authenticate(kim.secret, NOW + 30 * day - timedelta(seconds=1)) == Identity(
        kim.token_id, "Dr Kim", Role.CLINICIAN
    )
    assert tokens.authenticate(kim.secret, NOW + 30 * day) is Refusal.EXPIRED
    assert isinstance(tokens.authenticate(robot.secret, NOW + 9000 * day), Identity)
    revoked = tokens.revoke(robot.token_id, "admin", NOW)
    assert (revoked.revoked_at, revoked.revoked_by) == (NOW, "admin")
    assert tokens.authenticate(robot.secret, NOW) is Refusal.REVOKED
    assert tokens.revoke(robot.token_id, "other", NOW + day) == revoked
    assert tokens.token_id_of(robot.secret) == robot.token_id


@pytest.mark.parametrize("secret", ["", "x", "dse_", "a" * 10_000_000, "\udcff\x00", hash_of("x")])
def test_rubbish_is_nobody(tokens, secret):
    tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    assert tokens.authenticate(secret, NOW) is Refusal.UNKNOWN
    assert tokens.token_id_of(secret) is None


def test_without_a_file_nobody_is_let_in_and_nothing_is_made(tokens, folder):
    assert tokens.authenticate("dse_x", NOW) is Refusal.UNKNOWN
    assert tokens.list() == ()
    assert not (folder / TOKENS).exists()


def test_what_a_command_changes_holds_for_a_running_agent_at_once(tokens, folder):
    agent = Tokens(folder)
    for number in range(5):
        new = tokens.create(f"number {number}", Role.TECHNICIAN, None, NOW)
        assert isinstance(agent.authenticate(new.secret, NOW), Identity)
        Tokens(folder).revoke(new.token_id, "admin")
        assert agent.authenticate(new.secret, NOW) is Refusal.REVOKED
    (folder / TOKENS).unlink()
    assert agent.authenticate(new.secret, NOW) is Refusal.UNKNOWN


def test_the_file_is_read_only_after_a_change(tokens, folder, monkeypatch):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    tokens.authenticate(new.secret, NOW)
    reads: list[Path] = []
    monkeypatch.setattr("agent.access.tokens.read_private", reads.append)
    for _ in range(1000):
        assert isinstance(tokens.authenticate(new.secret, NOW), Identity)
    assert reads == []


@pytest.mark.parametrize(("name", "days"), [("", None), ("x" * 101, None), ("a\nb", None), ("Kim", 0), ("Kim", 3651)])
def test_what_is_no_name_and_no_time_is_refused(tokens, folder, name, days):
    with pytest.raises(AccessError):
        tokens.create(name, Role.CLINICIAN, days, NOW)
    assert tokens.list() == ()


def test_no_such_token(tokens):
    with pytest.raises(AccessError, match="there is no token 0123: dermascan token list"):
        tokens.revoke("0123", "admin")


def test_there_is_an_end_to_how_many_there_are_and_dead_ones_make_room(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    content = json.loads((folder / TOKENS).read_text())
    many = [content["tokens"][0] | {"token_id": f"{n:012x}", "sha256": f"{n:064x}"} for n in range(MOST_TOKENS - 1)]
    (folder / TOKENS).write_text(json.dumps({"format": 1, "tokens": [*content["tokens"], *many]}))
    with pytest.raises(AccessError, match="holds 1000 tokens"):
        tokens.create("one more", Role.CLINICIAN, None, NOW)
    tokens.revoke(new.token_id, "admin")
    tokens.create("one more", Role.CLINICIAN, None, NOW)
    assert tokens.authenticate(new.secret, NOW) is Refusal.UNKNOWN
    assert len(tokens.list()) == MOST_TOKENS


# The clock


@pytest.mark.fault("F16")
def test_in_1970_nobody_is_locked_out_and_no_old_token_comes_back_to_life(tokens, folder):
    short, long = (tokens.create("Dr Kim", Role.CLINICIAN, days, NOW) for days in (1, 90))
    later = NOW + timedelta(days=2)
    assert tokens.authenticate(short.secret, later) is Refusal.EXPIRED
    for agent in (tokens, Tokens(folder)):  # the second: after a power cut without a network
        assert agent.authenticate(short.secret, IN_1970) is Refusal.EXPIRED
        assert isinstance(agent.authenticate(long.secret, IN_1970), Identity)
    tokens.revoke(long.token_id, "admin", IN_1970)
    assert Tokens(folder).authenticate(long.secret, IN_1970) is Refusal.REVOKED


@pytest.mark.fault("F16")
def test_a_token_is_never_older_than_the_last_one_made(tokens, folder):
    old = tokens.create("Dr Kim", Role.CLINICIAN, 1, NOW)
    tokens.create("Dr Lee", Role.CLINICIAN, 30, NOW + timedelta(days=5))
    assert Tokens(folder).authenticate(old.secret, IN_1970) is Refusal.EXPIRED


@pytest.mark.fault("F16")
def test_a_clock_that_was_once_far_ahead_locks_nobody_out_for_good(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, 30, NOW)
    assert tokens.authenticate(new.secret, datetime(2090, 1, 1, tzinfo=timezone.utc)) is Refusal.EXPIRED
    assert isinstance(tokens.authenticate(new.secret, NOW), Identity)
    assert isinstance(Tokens(folder).authenticate(new.secret, IN_1970), Identity)


@pytest.mark.fault("F16")
def test_in_1970_no_token_is_made_of_which_nobody_could_say_when_it_ends(tokens):
    with pytest.raises(AccessError, match=r"01 January 1970, which cannot be right.*--expires-days 0"):
        tokens.create("Dr Kim", Role.CLINICIAN, 30, IN_1970)
    assert isinstance(
        tokens.authenticate(tokens.create("Dr Kim", Role.CLINICIAN, None, IN_1970).secret, IN_1970), Identity
    )


def test_the_last_time_is_kept_rarely_and_a_damaged_one_is_none(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, 30, NOW)
    now = NOW + timedelta(days=1)
    tokens.authenticate(new.secret, now)
    first = (folder / LAST_TIME).stat().st_ino
    for minutes in range(60):
        tokens.authenticate(new.secret, now + timedelta(minutes=minutes))
    assert (folder / LAST_TIME).stat().st_ino == first
    for content in (b"", b"\xff", b"tomorrow", b"2027-01-01T12:00:00"):
        (folder / LAST_TIME).write_bytes(content)
        assert isinstance(Tokens(folder).authenticate(new.secret, IN_1970), Identity)


def test_a_full_disk_keeps_nobody_out(tokens, monkeypatch, caplog):
    new = tokens.create("Dr Kim", Role.CLINICIAN, 30, NOW)

    def full(path: Path, _: bytes) -> None:
        raise AccessError(f"{path}: cannot be written")

    monkeypatch.setattr("agent.access.tokens.write_private", full)
    assert isinstance(tokens.authenticate(new.secret, NOW + timedelta(days=1)), Identity)
    assert "the time could not be kept" in caplog.text


# The file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
@pytest.mark.requirement("R-SEC-2")
def test_a_file_that_others_may_use_lets_nobody_in_and_says_the_chmod(tokens, folder, mode, caplog):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    (folder / TOKENS).chmod(mode)
    for _ in range(3):
        with pytest.raises(AccessError, match=f"chmod 600 {folder / TOKENS}"):
            tokens.authenticate(new.secret, NOW)
    assert caplog.text.count("nobody is let in") == 1
    (folder / TOKENS).chmod(0o600)
    assert isinstance(tokens.authenticate(new.secret, NOW), Identity)


def test_a_folder_that_others_may_write_in_is_not_believed(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    folder.chmod(0o770)
    with pytest.raises(AccessError, match=f"chmod 700 {folder}"):
        Tokens(folder).authenticate(new.secret, NOW)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_believed(folder):
    tokens = Tokens(folder)
    tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    os.chown(folder / TOKENS, 1234, 1234)
    assert len(tokens.list()) == 1, "root may look at the agent's file"
    code = (
        "import os, sys; from pathlib import Path; from agent.access.tokens import Tokens\n"
        "tokens = Tokens(Path(sys.argv[1])); os.setuid(4321)\n"
        "try: tokens.list()\n"
        "except Exception as error: print(error)"
    )
    for path in (*folder.parents, folder):
        if path.is_relative_to(folder.parents[4]):
            path.chmod(0o711)
    (folder / TOKENS).chmod(0o644)
    run = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=REPOSITORY, capture_output=True, check=True)
    assert f"belongs to another user (uid 1234): chown 4321 {folder / TOKENS}" in run.stdout.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_agents_user(tmp_path):
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    os.chown(state_dir, 1234, 1234)
    Tokens(state_dir / "access").create("Dr Kim", Role.CLINICIAN, None, NOW)
    for path in (state_dir / "access", *(state_dir / "access").iterdir()):
        assert path.stat().st_uid == 1234, path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"format": 2, "tokens": []}',
        b'{"format": 1, "tokens": [{}]}',
        b'{"format": 1, "tokens": [], "more": 1}',
        b"[" * 100_000,
        b" " * (5 * 1024 * 1024),
    ],
)
def test_a_broken_file_lets_nobody_in_and_is_not_written_over(tokens, folder, content):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    (folder / TOKENS).write_bytes(content)
    for call in (
        lambda: tokens.authenticate(new.secret, NOW),
        lambda: tokens.create("Dr Lee", Role.CLINICIAN, None, NOW),
        lambda: tokens.revoke(new.token_id, "admin"),
        tokens.list,
    ):
        with pytest.raises(AccessError, match=r"tokens\.json: "):
            call()
    assert (folder / TOKENS).read_bytes() == content


def test_one_role_that_is_none_spoils_the_file_rather_than_being_guessed(tokens, folder):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    text = (folder / TOKENS).read_text()
    (folder / TOKENS).write_text(text.replace('"clinician"', '"CANARY-admin"'))
    with pytest.raises(AccessError, match=r"tokens\.0\.role") as refused:
        tokens.authenticate(new.secret, NOW)
    assert "CANARY" not in str(refused.value)


def test_what_is_no_plain_file_is_not_opened(tokens, folder, tmp_path):
    new = tokens.create("Dr Kim", Role.CLINICIAN, None, NOW)
    elsewhere = (folder / TOKENS).rename(tmp_path / "elsewhere.json")
    (folder / TOKENS).symlink_to(elsewhere)
    with pytest.raises(AccessError):
        tokens.authenticate(new.secret, NOW)
    (folder / TOKENS).unlink()
    os.mkfifo(folder / TOKENS, 0o600)
    with pytest.raises(AccessError, match="no plain file"):
        tokens.authenticate(new.secret, NOW)
    (folder / TOKENS).unlink()
    (folder / TOKENS).mkdir()
    with pytest.raises(AccessError, match=r"tokens\.json"):
        tokens.authenticate(new.secret, NOW)


# Many at once


def test_commands_at_once_lose_no_token(folder):
    code = (
        "import sys; from pathlib import Path; from agent.access.tokens import Role, Tokens\n"
        "tokens = Tokens(Path(sys.argv[1]))\n"
        "for n in range(10): print(tokens.create(f'{sys.argv[2]} {n}', Role.CLINICIAN).secret)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(n)], cwd=REPOSITORY, stdout=subprocess.PIPE)
        for n in range(4)
    ]
    made = [secret for one in running for secret in one.communicate()[0].decode().split()]
    assert len(made) == 40
    agent = Tokens(folder)
    assert len({agent.authenticate(secret, datetime.now(timezone.utc)) for secret in made}) == 40


def test_threads_see_a_token_or_not_while_the_file_changes_and_nothing_else(tokens, folder):
    kept = tokens.create("kept", Role.CLINICIAN, None, NOW)
    agent, stop, wrong = Tokens(folder), threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            try:
                found = agent.authenticate(kept.secret, NOW)
            except AccessError as error:
                found = str(error)
            if not isinstance(found, Identity):
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        tokens.create(f"number {number}", Role.CLINICIAN, None, NOW)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
