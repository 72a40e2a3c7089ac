"""Certificates of the settings: when they end, whose they are, and whether the key beside them fits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.place import UNIT, Place

SOON: Final = timedelta(days=30)
_RENEW: Final = "ask who runs the cloud's side for a new one, and put it in its place; no restart is needed"
_RENEW_PAGE: Final = f"ask who issued it for a new one, put it in its place, then: sudo systemctl restart {UNIT}"


def certificate_files(config: Config) -> dict[str, tuple[Path, Path | None]]:
    """Every certificate file of the settings with its key's, by its key."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for name, section in (("mqtt", config.mqtt), ("cloud", config.cloud), ("api", config.api)):
        if section is not None and section.cert is not None:
            found[f"{name}.cert"] = (section.cert, section.key)
    for name, one in (("mqtt", config.mqtt), ("cloud", config.cloud)):
        if one is not None and one.ca is not None:
            found[f"{name}.ca"] = (one.ca, None)
    return found


def look(place: Place) -> Iterator[Finding]:
    """Each file on its own."""
    files = certificate_files(place.config)
    if not files:
        yield skipped("The settings name no certificates.")
        return
    for key, (cert, private) in files.items():
        yield from _file(place, key, cert, private)


def _file(place: Place, key: str, path: Path, private: Path | None) -> Iterator[Finding]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        yield failed(f"{path} ({key}) cannot be read ({error.strerror}).", "put the file there, or mend its owner")
        return
    except ValueError:
        yield failed(f"{path} ({key}) is no certificate.", "put a PEM file there (-----BEGIN CERTIFICATE-----)")
        return
    found = list(_dates(place, key, path, certificates))
    if key == "mqtt.cert":
        device = place.config.device.id
        names = [str(one.value) for one in certificates[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [device]:
            held = ", ".join(names) or "nobody"
            sentence = f"{path} ({key}) is the certificate of {held}, and [device] id is {device}."
            found.append(failed(sentence, "ask for a certificate whose common name is the device's id"))
    if private is not None:
        found += _key(key, path, private, certificates[0])
    ends = min(one.not_valid_after_utc for one in certificates)
    yield from found or [ok(f"{path.name} ({key}) is valid until {ends:%d %B %Y}.")]


def _dates(place: Place, key: str, path: Path, certificates: list) -> Iterator[Finding]:  # type: ignore[type-arg]
    now = place.now()
    if not place.clock_trusted:
        yield skipped(f"Whether {path.name} ({key}) is valid cannot be said: the clock is wrong.")
        return
    if (begins := max(one.not_valid_before_utc for one in certificates)) > now:
        yield failed(f"{path} ({key}) is not valid before {begins:%d %B %Y}.", "look at the device's clock first")
    ends = min(one.not_valid_after_utc for one in certificates)
    renew = _RENEW_PAGE if key.startswith("api.") else _RENEW
    if ends <= now:
        yield failed(f"{path} ({key}) ended on {ends:%d %B %Y}.", renew)
    elif ends - now < SOON:
        yield warning(f"{path} ({key}) ends on {ends:%d %B %Y}, in {(ends - now).days} days.", renew)


def _key(key: str, path: Path, private: Path, certificate: object) -> Iterator[Finding]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    assert isinstance(certificate, x509.Certificate)  # noqa: S101 - typed so that the import stays inside
    what = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        theirs = load_pem_private_key(private.read_bytes(), None).public_key().public_bytes(*what)
    except OSError:
        return  # "Keys and tokens" tells it
    except (ValueError, TypeError):
        yield failed(
            f"{private} (beside {key}) is no key that can be used.", "put the PEM key without a password there"
        )
        return
    if theirs != certificate.public_key().public_bytes(*what):
        yield failed(f"{private} is not the key of {path} ({key}).", "put the two files of one pair there")


CHECK = Check(
    name="certificates",
    title="Certificates",
    looks_at="the certificates of [mqtt], [cloud] and [api]: dates, common name, the key beside each",
    why="When a certificate ends, the device is cut off from one day to the next.",
    look=look,
)
