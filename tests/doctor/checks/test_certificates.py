"""Certificates: ended, about to end, somebody else's, and without their key."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.doctor.checks.certificates import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import look
from tests.fakes.certificates import CertificateAuthority

NOW = datetime.now(timezone.utc)
"""The fakes are issued now."""


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "pki")


@pytest.fixture
def with_tls(make_place):
    """A place with ``[mqtt]`` and these files."""

    def make(ca: Path, cert: Path, key: Path, now: datetime = NOW):
        section = f'[mqtt]\nhost = "127.0.0.1"\nca = "{ca}"\ncert = "{cert}"\nkey = "{key}"\n\n[store]'
        return make_place(("[store]", section), now=now)

    return make


def test_good_ones(with_tls, authority, make_place) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)
    device = authority._issue("device-1", authority_purpose(), end=NOW + timedelta(days=90))
    assert look(CHECK, with_tls(authority.cert, device.cert, device.key)).ok


def authority_purpose():
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return ExtendedKeyUsageOID.CLIENT_AUTH


def test_those_that_end(with_tls, authority) -> None:
    device = authority.device("device-1")
    soon = with_tls(authority.cert, device.cert, device.key, now=NOW + timedelta(days=9, hours=1))
    assert "in 20 days" in look(CHECK, soon).one(Outcome.WARNING).sentence
    late = with_tls(authority.cert, device.cert, device.key, now=NOW + timedelta(days=31))
    assert "no restart is needed" in look(CHECK, late).one(Outcome.FAILED, "ended on").remedy
    early = authority.device("device-1", not_yet=True)
    assert look(CHECK, with_tls(authority.cert, early.cert, early.key)).one(Outcome.FAILED, "not valid before")


@pytest.mark.fault("F16")
def test_with_a_wrong_clock_nothing_is_said_to_have_ended(with_tls, authority) -> None:
    device = authority.device("device-1")
    wrong = with_tls(authority.cert, device.cert, device.key, now=datetime(1970, 1, 1, tzinfo=timezone.utc))
    told = look(CHECK, wrong)
    assert {one.outcome for one in told.findings} == {Outcome.SKIPPED}


def test_somebody_elses(with_tls, authority) -> None:
    other = authority.device("device-2")
    told = look(CHECK, with_tls(authority.cert, other.cert, other.key))
    assert told.one(Outcome.FAILED, "the certificate of device-2")


def test_a_key_of_another_pair_and_what_is_no_certificate(with_tls, authority, tmp_path: Path) -> None:
    device, other = authority.device("device-1"), authority.device("other")
    told = look(CHECK, with_tls(authority.cert, device.cert, other.key))
    assert told.one(Outcome.FAILED, "is not the key of")
    (tmp_path / "junk.pem").write_text("junk")
    told = look(CHECK, with_tls(tmp_path / "junk.pem", device.cert, tmp_path / "junk.pem"))
    assert told.one(Outcome.FAILED, "is no certificate")
    assert told.one(Outcome.FAILED, "is no key")
    assert look(CHECK, with_tls(tmp_path / "none.pem", device.cert, device.key)).one(Outcome.FAILED, "cannot be read")
