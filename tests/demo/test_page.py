"""The demonstration's page: its link signs in, and no longer than the demonstration runs."""

from __future__ import annotations

import socket
from datetime import datetime, timezone

from agent.access.tokens import FOLDER, Identity, Refusal, Role, Tokens
from agent.demo.page import PORT, PageKey, page_port


def who(state, link: str) -> Identity | Refusal:
    return Tokens(state / FOLDER).authenticate(link.partition("#token=")[2], datetime.now(timezone.utc))


def test_the_link_signs_a_clinician_in_until_the_end(tmp_path):
    key = PageKey(tmp_path)
    link = key.link("http://127.0.0.1:8440/")
    assert link.startswith("http://127.0.0.1:8440/#token=dse_")
    found = who(tmp_path, link)
    assert isinstance(found, Identity)
    assert found.role is Role.CLINICIAN
    key.close()
    assert who(tmp_path, link) is Refusal.REVOKED


def test_what_a_killed_demonstration_left_is_revoked_and_others_are_not(tmp_path):
    tokens = Tokens(tmp_path / FOLDER)
    other = tokens.create("Dr Kim", Role.CLINICIAN)
    left = PageKey(tmp_path).link("http://x/")
    now = PageKey(tmp_path).link("http://x/")
    assert who(tmp_path, left) is Refusal.REVOKED
    assert isinstance(who(tmp_path, now), Identity)
    assert isinstance(tokens.authenticate(other.secret, datetime.now(timezone.utc)), Identity)


def test_another_program_on_the_usual_port_is_left_alone():
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", PORT))
        except OSError:
            pass  # somebody has it already, which serves as well
        else:
            other.listen()
        assert page_port() == 0
