"""Pseudonyms: what stands for a patient outside the clinic (F30).

A pseudonym is ``HMAC-SHA256(key, id)``, hexadecimal, over the id's UTF-8 bytes without surrounding blanks and in
Unicode's composed form (NFC). All devices of a clinic share one key file, so that a patient has the same pseudonym on
each; the key never leaves the clinic, and without it nobody can go back, not even by trying all ids there are. A lost
or changed key makes strangers of all patients.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import unicodedata
from pathlib import Path
from typing import Final

from agent.config import ConfigError
from engines.files import read_small

LEAST_BYTES: Final = 32
"""As many as HMAC-SHA256 gives (RFC 2104, section 3)."""
_MOST_BYTES: Final = 4096
_LEAST_VARIETY: Final = 10
"""Different byte values: 32 random bytes, or 32 random hexadecimal digits, practically always hold more than ten."""
_OTHERS: Final = stat.S_IRWXO
_MAKE: Final = "make one for the whole clinic with: (umask 077; head -c 32 /dev/urandom > {})"


class Pseudonyms:
    """Makes pseudonyms with one clinic's key, which it shows to nobody."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(...)"

    def of(self, patient_id: str | None) -> str | None:
        """The pseudonym, 64 hexadecimal digits; None where there is no id."""
        text = unicodedata.normalize("NFC", patient_id or "").strip()
        if not text:
            return None
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def read_pseudonyms(path: Path) -> Pseudonyms:
    """Read a clinic's key.

    Raises:
        ConfigError: the file is missing, open to everybody, too short or no key; the sentence says what to do.
    """
    try:
        key = read_small(path, _MOST_BYTES)
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise _refused(path, "there is no such file", _MAKE.format(path)) from error
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})", "give the agent's user a key file") from error
    if mode & _OTHERS:
        what = f"everybody on this machine may open it (mode {stat.S_IMODE(mode):04o})"
        raise _refused(path, what, f"take that away with: chmod o= {path}; and think about a new key")
    if len(key) < LEAST_BYTES:
        raise _refused(path, f"it holds {len(key)} bytes where {LEAST_BYTES} are the least", _MAKE.format(path))
    if len(set(key)) < _LEAST_VARIETY:
        raise _refused(path, "what it holds is not random", _MAKE.format(path))
    return Pseudonyms(key)


def _refused(path: Path, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"{os.fspath(path)}: not usable as privacy.pseudonym_key_file: {what}; {remedy}")
