"""Sealing: patient fields are encrypted before they are written anywhere, where the clinic has a key for that.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits. Authenticated with each text are the row it belongs to
and the field it is: one that was moved to another scan does not open. A sealed text is ``dse1:<key id>:`` and, in
base64url, nonce, ciphertext and tag. Patients are found among sealed rows by a keyed index (HMAC-SHA256 of the id),
which tells who has no key only which scans are of one patient. Both keys, and the key's id, come from one secret by
HKDF (RFC 5869).

The key file holds 32 random bytes, or lines of 64 hexadecimal digits: the first line seals, all of them open.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agent.config import ConfigError
from agent.credentials import handed_over
from agent.records.checkpoint import Rarely

log = logging.getLogger(__name__)

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SEALED: Final = re.compile(r"dse1:([0-9a-f]{16}):([A-Za-z0-9_-]{38,})")
METADATA: Final = "metadata"
PATIENT: Final = "patient_id"
NOTE: Final = "note"
_IN_RESULT: Final = re.compile(r'"patient_id":\s*"(dse1:[0-9a-f]{16}:[A-Za-z0-9_-]{38,})"')
_MOST_BYTES: Final = 64 * 1024
_MAKE: Final = "make one with: (umask 077; head -c 32 /dev/urandom > {})"


class _Key:
    """One secret of the file."""

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 5 MB: only where there is a key

        self.id = _derived(secret, b"dermascan key id", 8).hex()
        self.aead = AESGCM(_derived(secret, b"dermascan patient fields", KEY_BYTES))
        self.index = _derived(secret, b"dermascan patient index", KEY_BYTES)

    def __repr__(self) -> str:
        return f"_Key({self.id})"


class Seal:
    """Seals and opens with the keys of one file; without any, everything is written and read as it is."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        """``secrets``: of 32 bytes each; the first one seals, all of them open."""
        keys = [_Key(secret) for secret in secrets]
        self._current = keys[0] if keys else None
        self._keys = {key.id: key for key in keys}
        self._rarely = Rarely(log, 300.0)

    @property
    def key_id(self) -> str | None:
        """Of the key that seals; None where nothing is sealed."""
        return None if self._current is None else self._current.id

    @property
    def key_ids(self) -> frozenset[str]:
        """Of all keys."""
        return frozenset(self._keys)

    def seal(self, text: str, row: str, field: str) -> str:
        """A text of a row's field, sealed with the newest key; as it is without one."""
        if self._current is None:
            return text
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._current.aead.encrypt(nonce, text.encode("utf-8", "surrogatepass"), _bound(row, field))
        return f"dse1:{self._current.id}:{base64.urlsafe_b64encode(nonce + sealed).rstrip(b'=').decode('ascii')}"

    def open(self, text: str, row: str, field: str) -> str | None:
        """The text again. One that was never sealed is given as it is; None: its key is not here, or it was changed."""
        found = SEALED.fullmatch(text)
        if found is None:
            return text
        key = self._keys.get(found[1])
        if key is None:
            return None
        from cryptography.exceptions import InvalidTag

        data = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
        try:
            return key.aead.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(row, field)).decode(
                "utf-8", "surrogatepass"
            )
        except (InvalidTag, UnicodeDecodeError):
            self._rarely.error("%s of %s: was changed, or belongs to another row: it is not shown", field, row)
            return None

    def index(self, patient_id: str | None) -> str | None:
        """By what a patient's rows are found; None without a key or an id."""
        return None if self._current is None else _index(self._current, patient_id)

    def indexes(self, patient_id: str) -> list[str]:
        """The same under each of the keys."""
        return [found for key in self._keys.values() if (found := _index(key, patient_id)) is not None]

    # What is made of texts: a scan's fields as the database and the result files hold them

    def metadata(self, content: dict[str, Any], scan_id: str) -> str:
        """A scan's patient fields for the database. Where there are none there is nothing to seal."""
        text = json.dumps(content, ensure_ascii=False)
        return self.seal(text, scan_id, METADATA) if content else text

    def open_metadata(self, text: str, scan_id: str) -> dict[str, Any]:
        """The reverse; empty where it cannot be opened."""
        content: dict[str, Any] = json.loads(self.open(text, scan_id, METADATA) or "{}")
        return content

    def result(self, text: str, scan_id: str) -> str:
        """A scan's answer as JSON, the patient's id in it sealed; the rest stays readable."""
        if self._current is None:
            return text
        content = json.loads(text)
        if not isinstance(patient_id := content.get(PATIENT), str) or SEALED.fullmatch(patient_id):
            return text
        content[PATIENT] = self.seal(patient_id, scan_id, PATIENT)
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    def open_result(self, text: str, scan_id: str) -> str:
        """The reverse: the id in the clear, or null where it cannot be opened."""
        if '"dse1:' not in text:  # answers are long
            return text
        return _IN_RESULT.sub(
            lambda found: f'"{PATIENT}":{json.dumps(self.open(found[1], scan_id, PATIENT), ensure_ascii=False)}', text
        )


PLAIN: Final = Seal()
"""Of a device without a key."""


def same_patient(patient_id: str) -> str:
    """A patient's id as it is compared: in Unicode's composed form, without surrounding blanks (as `agent.privacy`)."""
    return unicodedata.normalize("NFC", patient_id).strip()


def read_seal(path: Path | None) -> Seal:
    """The keys of a file; PLAIN where there is none to be used.

    Raises:
        ConfigError: the file is missing, open to everybody, or holds no key; the sentence says what to do.
    """
    return PLAIN if path is None else Seal(read_secrets(path))


def read_secrets(path: Path) -> list[bytes]:
    """The secrets of a key file, the newest first. Raises ConfigError."""
    try:
        with handed_over(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES) if stat.S_ISREG(mode) else b""
    except FileNotFoundError as error:
        raise _refused(path, "there is no such file", _MAKE.format(path)) from error
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})", "give the agent's user a key file") from error
    if mode & stat.S_IRWXO:
        what = f"everybody on this machine may open it (mode {stat.S_IMODE(mode):04o})"
        raise _refused(path, what, f"take that away with: chmod o= {path}; and think about dermascan rotate-keys")
    secrets = [content] if len(content) == KEY_BYTES else _lines(content)
    if not secrets or any(len(set(secret)) < 10 for secret in secrets):
        what = "it holds neither 32 random bytes nor lines of 64 hexadecimal digits"
        raise _refused(path, what, _MAKE.format(path))
    return secrets


def _lines(content: bytes) -> list[bytes]:
    try:
        lines = [line.partition("#")[0].strip() for line in content.decode("ascii").splitlines()]
        secrets = [bytes.fromhex(line) for line in lines if line]
    except ValueError:
        return []
    return secrets if all(len(secret) == KEY_BYTES for secret in secrets) else []


def _refused(path: Path, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"{os.fspath(path)}: not usable as privacy.field_key_file: {what}; {remedy}")


def _bound(row: str, field: str) -> bytes:
    return f"{row}\0{field}".encode()


def _index(key: _Key, patient_id: str | None) -> str | None:
    if not (text := same_patient(patient_id or "")):
        return None
    return hmac.new(key.index, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) without a salt, of up to 32 bytes."""
    extracted = hmac.new(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256).digest()
    return hmac.new(extracted, purpose + b"\x01", hashlib.sha256).digest()[:length]
