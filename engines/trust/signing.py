"""Signs a bundle: ``signature.json``, an envelope around the bytes of its manifest, which holds every file's hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.files import write_atomically
from engines.manifest import read_manifest_text
from engines.trust.dsse import PAYLOAD_TYPE, Envelope, Signature, pre_authentication_encoding, write_envelope
from engines.trust.keys import TrustError, key_id_of
from engines.trust.verifying import SIGNATURE_NAME

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign_bundle(folder: Path, private_key: Ed25519PrivateKey) -> Path:
    """Sign the manifest that lies in ``folder`` now; an older signature is replaced. Returns ``signature.json``.

    The manifest is taken as it is: check the bundle first (``engines.bundle.read_unsigned_bundle``) where it was not
    written by this very program.

    Raises:
        BundleError: the manifest cannot be read, or the signature cannot be written.
    """
    path = folder / SIGNATURE_NAME
    manifest = read_manifest_text(folder)
    value = private_key.sign(pre_authentication_encoding(PAYLOAD_TYPE, manifest))
    envelope = Envelope(PAYLOAD_TYPE, manifest, (Signature(key_id_of(private_key.public_key()), value),))
    try:
        write_atomically(path, write_envelope(envelope))
    except OSError as error:
        raise TrustError(f"{path}: cannot be written ({error.strerror}); the bundle is as it was") from error
    return path
