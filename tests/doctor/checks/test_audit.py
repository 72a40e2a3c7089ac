"""The audit: a row that was changed is found."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from agent.doctor.checks.audit import CHECK
from agent.doctor.finding import Outcome
from agent.records.audit import AuditAction
from tests.doctor.conftest import look


def test_the_chain(make_place, make_store) -> None:
    place = make_place()
    assert look(CHECK, place).one(Outcome.SKIPPED)
    store = make_store()
    for number in range(3):
        store.audit(AuditAction.EXPORT, "root", "shell", f"export-{number}", {}).result()
    store.close()
    assert look(CHECK, place).ok

    with closing(sqlite3.connect(place.state_dir / "dermascan.db")) as db, db:
        db.execute("DROP TRIGGER audit_stays_as_it_is")
        db.execute("UPDATE audit SET who = 'nobody' WHERE seq = 2")
    assert "row 2" in look(CHECK, place).one(Outcome.FAILED).sentence
