"""Keys: Ed25519 in PEM files. ``NAME.pub`` in the trust folder is believed, ``NAME.key`` stays with who signs.

A key's id is the sha256 of its public part in DER, so that any machine can tell it:
``openssl pkey -pubin -in NAME.pub -outform DER | sha256sum``.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engines.backend import BundleError
from engines.files import read_small, sync, write_atomically

if TYPE_CHECKING:  # 30 ms that only those who sign or verify pay for
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_SUFFIX: Final = ".pub"
PRIVATE_SUFFIX: Final = ".key"
DEMO_NAME: Final = "demonstration key"
_DEMO_SENTENCE: Final = b"DermaScan Edge demonstration key: everybody has it, and its signature proves nothing."
_MAX_BYTES: Final = 16_384
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TrustError(BundleError):
    """A key or the trust folder cannot be used. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class PublicKey:
    """A key that is believed; ``name`` is its file's stem."""

    name: str
    key_id: str
    key: Ed25519PublicKey

    @property
    def demo(self) -> bool:
        """Whether it is the demonstration key, under whatever name."""
        return self.key_id == demo_public_key().key_id


@dataclass(frozen=True)
class TrustedKeys:
    """The keys of a trust folder, and a sentence for each file there that is none."""

    keys: tuple[PublicKey, ...] = ()
    faults: tuple[str, ...] = ()


def demo_key() -> Ed25519PrivateKey:
    """The demonstration's private key, made from a sentence that everybody can read: it protects nothing.

    It lets the checkout, the tests and the demonstration keep to the rule that no bundle runs unsigned, with no secret
    in the repository; ``inference.require_trusted = true`` refuses it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(_DEMO_SENTENCE).digest())


def demo_public_key() -> PublicKey:
    """The demonstration key's public part."""
    public = demo_key().public_key()
    return PublicKey(DEMO_NAME, key_id_of(public), public)


def key_id_of(key: Ed25519PublicKey) -> str:
    """The key's id: sha256 of its SubjectPublicKeyInfo in DER, 64 hexadecimal digits."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_public_key(path: Path) -> PublicKey:
    """Read ``NAME.pub``.

    Raises:
        TrustError: it cannot be read or is no Ed25519 public key in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_small(path, _MAX_BYTES))
    except OSError as error:
        raise TrustError(f"{path}: the key cannot be read ({error.strerror}); give the public key's file") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path}: holds no public key in PEM; copy the .pub file again") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(f"{path}: holds a key that is not Ed25519; make one with: dermascan engine keygen NAME")
    return PublicKey(path.stem, key_id_of(key), key)


def read_private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read ``NAME.key``.

    Raises:
        TrustError: it cannot be read, is no Ed25519 private key in PEM, or the passphrase does not open it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_small(path, _MAX_BYTES), passphrase)
    except OSError as error:
        raise TrustError(f"{path}: the key cannot be read ({error.strerror}); give the private key's file") from error
    except TypeError as error:  # a passphrase is missing, or given where none is needed
        what = "is protected by a passphrase" if passphrase is None else "has no passphrase"
        remedy = "give" if passphrase is None else "leave out"
        raise TrustError(f"{path}: the key {what}; {remedy} --passphrase-file") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "holds no private key in PEM" if passphrase is None else "is not opened by this passphrase, or damaged"
        raise TrustError(f"{path}: {why}; give the .key file that dermascan engine keygen made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(f"{path}: holds a key that is not Ed25519; make one with: dermascan engine keygen NAME")
    return key


def make_key_pair(folder: Path, name: str, passphrase: bytes | None = None) -> PublicKey:
    """Make ``NAME.key`` (readable by its owner only) and ``NAME.pub`` in ``folder``; never over existing files.

    Raises:
        TrustError: the name is none, a file is already there, or the folder cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )

    check_name(name)
    private, public = folder / f"{name}{PRIVATE_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
    key = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    )
    try:
        for path in (private, public):
            if path.exists():
                raise TrustError(f"{path}: is already there, and no key is ever written over; choose another name")
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
            file.flush()
            os.fsync(handle)
        write_atomically(public, _pem(key.public_key()))
    except OSError as error:
        raise TrustError(f"{folder}: the keys cannot be written ({error.strerror}); name a folder you own") from error
    return PublicKey(name, key_id_of(key.public_key()), key.public_key())


def _pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def check_name(name: str) -> str:
    """A key's name becomes a file's name.

    Raises:
        TrustError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise TrustError(f"{name!r}: is no name for a key; take 1 to 64 letters, digits, '.', '-' or '_'")
    return name


def read_trust_folder(folder: Path) -> TrustedKeys:
    """The keys in ``folder``; a missing folder holds none, and a file that is no key is told of, not believed.

    Raises:
        TrustError: the folder cannot be read, or everybody may write to it, so that it means nothing.
    """
    try:
        mode = folder.stat().st_mode
        paths = sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))
    except FileNotFoundError:
        return TrustedKeys()
    except OSError as error:
        raise TrustError(
            f"{folder}: the trust folder cannot be read ({error.strerror}); mend its permissions"
        ) from error
    if not stat.S_ISDIR(mode):
        raise TrustError(f"{folder}: is no folder; point inference.trust_dir at the folder of trusted keys")
    if mode & stat.S_IWOTH:
        raise TrustError(f"{folder}: everybody may write to the trust folder, so it proves nothing; chmod o-w {folder}")
    keys, faults = [], []
    for path in paths:
        try:
            if path.stat().st_mode & stat.S_IWOTH:
                raise TrustError(f"{path}: everybody may write to this key, so it is not believed; chmod o-w {path}")  # noqa: TRY301
            keys.append(read_public_key(path))
        except (TrustError, OSError) as error:
            faults.append(str(error))
    return TrustedKeys(tuple(keys), tuple(faults))


def add_trusted(folder: Path, key: PublicKey) -> Path:
    """Put a key into the trust folder, which is made where missing; returns its file.

    Raises:
        TrustError: another key has this name, it is the demonstration key, or the folder cannot be written.
    """
    if key.demo:
        raise TrustError(
            f"the {DEMO_NAME} is never trusted: anybody can sign with it; make one with: engine keygen NAME"
        )
    path = folder / f"{check_name(key.name)}{PUBLIC_SUFFIX}"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        known = read_trust_folder(folder)
        for other in known.keys:
            if other.name == key.name and other.key_id != key.key_id:
                raise TrustError(f"{path}: another key has this name; give this one another with --name")
        write_atomically(path, _pem(key.key))
    except OSError as error:
        raise TrustError(
            f"{path}: the key cannot be written ({error.strerror}); run this as the folder's owner"
        ) from error
    return path


def remove_trusted(folder: Path, name: str) -> None:
    """Take a key out of the trust folder.

    Raises:
        TrustError: there is none of this name, or the folder cannot be written.
    """
    path = folder / f"{check_name(name)}{PUBLIC_SUFFIX}"
    try:
        path.unlink()
        sync(folder)
    except FileNotFoundError as error:
        raise TrustError(f"{path}: there is no such key; dermascan engine trust list shows what there is") from error
    except OSError as error:
        raise TrustError(f"{path}: cannot be removed ({error.strerror}); run this as the folder's owner") from error
