"""The page's tokens: readable, valid, and not about to end."""

from __future__ import annotations

from datetime import timedelta

from agent.access.tokens import Role, Tokens
from agent.doctor.checks.access import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import NOW, look

API = ("[store]", "[api]\nport = 0\n\n[store]")


def test_tokens(make_place) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)
    place = make_place(API)
    assert look(CHECK, place).one(Outcome.WARNING, "Nobody can sign in")
    tokens = Tokens(place.state_dir / "access")
    tokens.create("Nurse Canary", Role.CLINICIAN, 30, now=NOW)
    assert look(CHECK, place).ok
    later = make_place(API, now=NOW + timedelta(days=20))
    finding = look(CHECK, later).one(Outcome.WARNING, "ends on 30 December 2026")
    assert "--role clinician" in finding.remedy
    assert "Canary" not in str(finding)
    assert look(CHECK, make_place(API, now=NOW + timedelta(days=31))).one(Outcome.WARNING, "Nobody can sign in")

    tokens.path.write_text("no list")
    assert look(CHECK, place).one(Outcome.FAILED, "Nobody is let in")
