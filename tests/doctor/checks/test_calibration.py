"""Calibrations: none, one that holds, one that ends soon, one that ended."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.doctor.checks.calibration import CHECK
from agent.doctor.finding import Outcome
from calibration.shelf.profile import expiry
from calibration.shelf.reading import FOLDER, Shelf
from calibration.shelf.record import RECORD_NAME
from calibration.shelf.writing import activate, put_profile, put_verification
from tests.calibration.visiting import fitted, variant, verification_of, verified
from tests.doctor.conftest import NOW, look

REQUIRED = ("[store]", "[calibration]\nrequire = true\n\n[store]")


def put_into_use(shelf: Shelf, made_at: datetime) -> None:
    profile = variant(created_at=made_at, expires_at=expiry(made_at))
    put_profile(shelf, profile, fitted()[1])
    put_verification(shelf, verification_of(profile, made_at=made_at), verified()[1])
    activate(shelf, profile, "Ana", made_at)


def test_never_calibrated(make_place) -> None:
    finding = look(CHECK, make_place()).one(Outcome.WARNING, "never calibrated")
    assert finding.remedy == "calibrate it: dermascan calibrate --dermoscope scope-1"
    assert look(CHECK, make_place(REQUIRED)).one(Outcome.FAILED, "captures are refused")


def test_a_profile_by_its_age(make_place) -> None:
    place = make_place()
    put_into_use(Shelf(place.state_dir / FOLDER), NOW)
    assert look(CHECK, place).ok
    soon = make_place(now=NOW + timedelta(days=25))
    assert "ends in 5 days" in look(CHECK, soon).one(Outcome.WARNING).sentence
    late = make_place(now=NOW + timedelta(days=31))
    assert look(CHECK, late).one(Outcome.WARNING, "expired")
    assert look(CHECK, make_place(REQUIRED, now=NOW + timedelta(days=31))).one(Outcome.FAILED, "expired")


def test_a_record_that_was_changed(make_place) -> None:
    place = make_place()
    shelf = Shelf(place.state_dir / FOLDER)
    put_into_use(shelf, NOW)
    path = shelf.place("scope-1") / RECORD_NAME
    path.write_text(path.read_text().replace("Ana", "Eva"))
    assert look(CHECK, place).one(Outcome.WARNING, "no colours that hold")
