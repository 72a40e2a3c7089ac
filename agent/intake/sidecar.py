"""The optional file NAME.json beside a capture: whose skin, and where on it. Never a reason to refuse a capture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

_Value = TypeVar("_Value")

MAX_BYTES = 64 * 1024
_MAX_LENGTH = 64
_KEYS = ("patient_id", "body_site", "age", "sex", "skin_type")
_SEXES = ("female", "male", "other", "unknown")
_SKIN_TYPES = {"1": "I", "2": "II", "3": "III", "4": "IV", "5": "V", "6": "VI"}


@dataclass(frozen=True)
class Sidecar:
    """What the sidecar says of the patient; ``None`` for what it does not say. Never leaves the device."""

    patient_id: str | None = None
    body_site: str | None = None
    age: int | None = None
    """Years."""
    sex: str | None = None
    """``female``, ``male``, ``other`` or ``unknown``."""
    skin_type: str | None = None
    """Fitzpatrick's, ``"I"`` to ``"VI"``."""
    warning: str | None = None
    """What could not be used, in one sentence that holds none of the values."""


def sidecar_path(capture: Path) -> Path:
    """``lesion.jpg`` has its sidecar in ``lesion.json``."""
    return capture.with_suffix(".json")


def read_sidecar(capture: Path) -> Sidecar:
    """The sidecar of a capture; an empty one where there is none, and a warning where it cannot be used."""
    path = sidecar_path(capture)
    if path == capture:
        return Sidecar()
    name = path.name.encode("utf-8", "replace").decode()
    try:
        if not path.is_file():  # a pipe would never end
            return Sidecar()
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        return Sidecar(warning=f"The patient file {name} cannot be read; the answer is without its details.")
    if len(data) > MAX_BYTES:
        return Sidecar(warning=f"The patient file {name} is too large; the answer is without its details.")
    return parse_sidecar(data, name)


def parse_sidecar(data: bytes, name: str) -> Sidecar:
    """Check a sidecar's bytes field by field; what is wrong is left out and named in ``warning``."""
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return Sidecar(warning=f"The patient file {name} is not in the agreed form; the answer is without its details.")
    wrong: list[str] = []

    def field(key: str, check: Callable[[object], _Value | None]) -> _Value | None:
        given = content.get(key)
        if given is None or given == "":
            return None
        value = check(given)
        if value is None:
            wrong.append(key)
        return value

    found = Sidecar(
        patient_id=field("patient_id", _text),
        body_site=field("body_site", _text),
        age=field("age", _age),
        sex=field("sex", _sex),
        skin_type=field("skin_type", _skin_type),
    )
    parts = []
    if wrong:
        parts.append(f"these values cannot be used: {', '.join(wrong)}")
    unknown = sorted(_shown(key) for key in content if key not in _KEYS)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        parts.append(f"these entries are not known: {', '.join(unknown[:5])}{more}")
    warning = f"In the patient file {name}, {'; '.join(parts)}." if parts else None
    return replace(found, warning=warning)


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # patient numbers are often written without quotes
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if 0 < len(value) <= _MAX_LENGTH and value.isprintable() else None


def _age(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value) <= 8:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 120 else None


def _sex(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and value.lower() in _SEXES else None


def _skin_type(value: object) -> str | None:
    text = str(value).strip().upper() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    text = _SKIN_TYPES.get(text, text)
    return text if text in _SKIN_TYPES.values() else None


def _shown(key: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in key[:32])
