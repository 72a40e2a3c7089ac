"""A session lives as long as it says, through a restart, and no longer than its token."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.access.files import AccessError
from agent.access.sessions import MOST_OF_A_TOKEN, MOST_SESSIONS, SESSIONS, Session, SessionClocks, Sessions
from agent.access.tokens import Identity, Refusal, Role, Tokens, hash_of
from tests.access.conftest import IN_1970, START, Time


@pytest.fixture
def tokens(folder: Path) -> Tokens:
    return Tokens(folder)


@pytest.fixture
def kim(tokens: Tokens) -> Identity:
    return found(tokens, 30)


@pytest.fixture
def sessions(folder: Path, tokens: Tokens, time: Time) -> Sessions:
    return Sessions(folder, tokens, time.clocks)


def found(tokens: Tokens, days: int | None) -> Identity:
    identity = tokens.authenticate(tokens.create("Dr Kim", Role.CLINICIAN, days, START).secret, START)
    assert isinstance(identity, Identity)
    return identity


def test_a_session_is_whose_it_is_until_its_end(sessions, folder, kim, time):
    secret = sessions.open(kim, hours=12)
    assert sessions.authenticate(secret) == Session(kim, START + timedelta(hours=12))
    assert sessions.authenticate(secret + "x") is Refusal.UNKNOWN
    assert sessions.authenticate("") is Refusal.UNKNOWN
    assert sessions.authenticate("x" * 1_000_000) is Refusal.UNKNOWN
    time.go_on(hours=11.99)
    assert isinstance(sessions.authenticate(secret), Session)
    time.go_on(hours=0.02)
    assert sessions.authenticate(secret) is Refusal.EXPIRED
    assert secret not in (folder / SESSIONS).read_text()
    assert hash_of(secret) in (folder / SESSIONS).read_text()
    assert (folder / SESSIONS).stat().st_mode & 0o777 == 0o600


def test_it_survives_a_restart_of_the_agent_and_a_closed_one_does_not(sessions, folder, tokens, kim, time):
    kept, closed = sessions.open(kim), sessions.open(kim)
    sessions.close(closed)
    sessions.close(closed)
    sessions.close("nobody's")
    for again in (sessions, Sessions(folder, tokens, time.clocks)):
        assert isinstance(again.authenticate(kept), Session)
        assert again.authenticate(closed) is Refusal.UNKNOWN


def test_it_ends_with_its_token(sessions, tokens, kim, time):
    secret = sessions.open(kim)
    tokens.revoke(kim.token_id, "admin")
    assert sessions.authenticate(secret) is Refusal.REVOKED
    short = found(tokens, 1)
    time.go_on(hours=23)
    secret = sessions.open(short, hours=12)
    session = sessions.authenticate(secret)
    assert isinstance(session, Session)
    assert session.expires_at == START + timedelta(days=1)
    time.go_on(hours=1)
    assert sessions.authenticate(secret) is Refusal.EXPIRED


def test_it_ends_with_the_tokens_file(sessions, tokens, kim):
    secret = sessions.open(kim)
    tokens.path.unlink()
    assert sessions.authenticate(secret) is Refusal.UNKNOWN
    tokens.path.write_text("{")
    tokens.path.chmod(0o600)
    with pytest.raises(AccessError):
        sessions.authenticate(secret)


@pytest.mark.fault("F16")
@pytest.mark.parametrize("to", [IN_1970, START + timedelta(days=9000), START - timedelta(seconds=13)])
def test_no_jump_of_the_clock_ends_it_or_makes_it_longer(sessions, folder, tokens, time, to):
    secret = sessions.open(found(tokens, None), hours=2)
    time.wall = to
    time.go_on(hours=1.9)
    for again in (sessions, Sessions(folder, tokens, time.clocks)):
        assert isinstance(again.authenticate(secret), Session)
    time.go_on(hours=0.2)
    for again in (sessions, Sessions(folder, tokens, time.clocks)):
        assert again.authenticate(secret) is Refusal.EXPIRED


@pytest.mark.fault("F16")
def test_one_that_was_opened_in_1970_lives_on_when_the_time_comes(sessions, kim, time):
    time.wall = IN_1970
    secret = sessions.open(kim, hours=2)
    time.wall = START
    assert sessions.authenticate(secret) == Session(kim, START + timedelta(hours=2))


@pytest.mark.fault("F16")
def test_after_a_reboot_it_lives_on_only_where_both_times_can_be_right(sessions, folder, tokens, kim, time):
    good = sessions.open(kim, hours=2)
    time.wall = IN_1970
    of_1970 = sessions.open(kim, hours=2)
    time.reboot()
    time.wall = START + timedelta(hours=1)
    after = Sessions(folder, tokens, time.clocks)
    assert after.authenticate(good) == Session(kim, START + timedelta(hours=2))
    assert after.authenticate(of_1970) is Refusal.EXPIRED
    time.wall = IN_1970
    assert after.authenticate(good) is Refusal.EXPIRED


def test_there_is_an_end_to_how_many_there_are(sessions, folder, tokens, kim, time):
    mine = [sessions.open(kim) for _ in range(MOST_OF_A_TOKEN + 5)]
    assert len(sessions) == MOST_OF_A_TOKEN
    assert sessions.authenticate(mine[0]) is Refusal.UNKNOWN
    assert isinstance(sessions.authenticate(mine[-1]), Session)
    for number in range(MOST_SESSIONS - MOST_OF_A_TOKEN + 5):
        sessions.open(Identity(f"{number:012x}", "x", Role.CLINICIAN))
    assert len(sessions) == len(Sessions(folder, tokens, time.clocks)) == MOST_SESSIONS
    time.go_on(hours=13)
    sessions.open(kim)
    assert len(sessions) == 1, "what has ended is forgotten"


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 9}', b"\xff"])
def test_a_broken_file_only_means_to_sign_in_again(sessions, tokens, kim, content, caplog):
    secret = sessions.open(kim)
    path = tokens.path.with_name(SESSIONS)
    path.write_bytes(content)
    after = Sessions(path.parent, tokens, SessionClocks(wall=lambda: START))
    assert "everyone has to sign in again" in caplog.text
    assert after.authenticate(secret) is Refusal.UNKNOWN
    assert isinstance(after.authenticate(after.open(kim)), Session)


def test_a_file_that_others_could_write_is_not_believed(sessions, tokens, kim, time, caplog):
    secret = sessions.open(kim)
    tokens.path.with_name(SESSIONS).chmod(0o666)
    assert Sessions(tokens.path.parent, tokens, time.clocks).authenticate(secret) is Refusal.UNKNOWN
    assert "chmod 600" in caplog.text


def test_a_session_that_cannot_be_kept_is_not_opened_and_a_closed_one_is_closed(sessions, kim, monkeypatch):
    secret = sessions.open(kim)

    def full(*_: object) -> None:
        raise AccessError("no room")

    monkeypatch.setattr("agent.access.sessions.write_private", full)
    with pytest.raises(AccessError):
        sessions.open(kim)
    assert len(sessions) == 1
    with pytest.raises(AccessError):
        sessions.close(secret)
    assert sessions.authenticate(secret) is Refusal.UNKNOWN
