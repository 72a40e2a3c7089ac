"""Verifies a bundle's signature before anything in the bundle is believed (F15)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.backend import BundleError
from engines.files import read_small
from engines.trust.dsse import PAYLOAD_TYPE, Envelope, EnvelopeError, pre_authentication_encoding, read_envelope
from engines.trust.keys import DEMO_NAME, PublicKey, TrustedKeys, demo_public_key, read_trust_folder

SIGNATURE_NAME: Final = "signature.json"
_MAX_SIGNATURE_BYTES: Final = 2 << 20
"""Above a manifest of the largest size in base64, with its signatures."""


@dataclass(frozen=True)
class Trust:
    """Whose signature is believed.

    The keys in ``folder`` are; the demonstration key is too, unless ``require_trusted``. A signature by any other key
    is refused either way: there is no "signed by somebody".
    """

    folder: Path | None = None
    require_trusted: bool = False


DEMO_TRUST: Final = Trust()
"""What holds where no settings say otherwise: the demonstration key alone."""


@dataclass(frozen=True)
class Signer:
    """Who signed a bundle, as far as this device knows the key."""

    key_id: str
    name: str
    demo: bool


def verify_signature(folder: Path, trust: Trust, manifest: bytes) -> Signer:
    """Check that a believed key signed exactly these bytes.

    Args:
        folder: the bundle's folder, which holds ``signature.json``.
        trust: whose signature is believed.
        manifest: the bytes of ``manifest.json`` that the caller is going to use; not read again here, so that nothing
            can be exchanged in between.

    Raises:
        BundleError: the signature is missing, damaged, over another manifest, or by a key that is not believed.
    """
    path = folder / SIGNATURE_NAME
    envelope = _read(path)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise BundleError(
            f"{path}: is a signature over {envelope.payload_type[:80]!r}, not over a bundle's manifest; install the"
            " bundle again"
        )
    if envelope.payload != manifest:
        raise BundleError(
            f"{path}: is the signature of another manifest: manifest.json was changed after it was signed, or one of"
            " both is of another bundle; install the bundle again"
        )
    believed = TrustedKeys() if trust.folder is None else read_trust_folder(trust.folder)
    known = (*believed.keys, demo_public_key())
    by = next((key for key in known if _signed_by(envelope, key)), None)
    if by is None:
        raise BundleError(f"{path}: {_stranger(envelope, trust, believed)}")
    if by.demo and trust.require_trusted:
        raise BundleError(
            f"{path}: the bundle is signed with the {DEMO_NAME}, which anybody can sign with, and"
            " inference.require_trusted = true refuses it; install a bundle that is signed with a key of your own"
        )
    return Signer(by.key_id, DEMO_NAME if by.demo else by.name, by.demo)


def _read(path: Path) -> Envelope:
    try:
        return read_envelope(read_small(path, _MAX_SIGNATURE_BYTES))
    except FileNotFoundError as error:
        raise BundleError(
            f"{path}: is missing: the bundle is not signed, and no unsigned bundle is run; sign it with: dermascan"
            " engine sign BUNDLE --key FILE"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); install the bundle again") from error
    except EnvelopeError as error:
        raise BundleError(f"{path}: {error}; install the bundle again, or sign it anew") from error


def _signed_by(envelope: Envelope, key: PublicKey) -> bool:
    from cryptography.exceptions import InvalidSignature

    signed = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    for signature in envelope.signatures:
        try:
            key.key.verify(signature.value, signed)
        except InvalidSignature:
            continue
        return True
    return False


def _stranger(envelope: Envelope, trust: Trust, believed: TrustedKeys) -> str:
    """Why no believed key's signature fits. One sentence."""
    claimed = [signature.key_id for signature in envelope.signatures]
    known = {key.key_id: key.name for key in (*believed.keys, demo_public_key())}
    if names := [known[key_id] for key_id in claimed if key_id in known]:
        return f"the signature that names {' and '.join(names)} is forged or damaged; install the bundle again"
    where = "no trust folder is set"
    if trust.folder is not None:
        where = f"{trust.folder} holds {len(believed.keys)} trusted keys"
    unusable = f" (not usable there: {'; '.join(believed.faults)})" if believed.faults else ""
    return (
        f"the bundle is signed with a key that this device does not trust ({claimed[0][:16] or 'unnamed'}; {where}"
        f"{unusable}); if you trust its owner, add the public key with: dermascan engine trust add FILE"
    )
