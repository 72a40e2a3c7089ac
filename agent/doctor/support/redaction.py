"""Takes out of a text what must stay here, and finds whether anything of it is left (F30)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.doctor.support.canaries import Canaries

REMOVED: Final = "[removed]"
_KEY: Final = 4
"""Shorter names and numbers are not looked for: they stand everywhere, and name nobody by themselves."""
_SHAPES: Final = (
    re.compile(r"(?<= = )(\\?['\"]).*?\1(?=: (?:not usable|also given|lies in|is given))"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)\bdse_[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?<=://)[^/@\s\"']+(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)\b(?:pass(?:word|wd)?|secret|token|api[_-]?key)\b\\?[\"']?\s*[=:]\s*\\?[\"']?(?!\[removed\])[^\s\"',;\\]{3,}"
    ),
    re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    re.compile(r"(?i)\bpatient(?:[_ -]?id)?\b\\?[\"']?\s*[=:]\s*\\?[\"']?(?!\[removed\])[^\s\"',;\\]+"),
)
"""What looks like a secret or a patient, whether this device knows it or not: texts in a wrong place of the settings,
private keys, our tokens, passwords in addresses, bearer tokens, assignments of passwords, mail
addresses, assignments of patients."""
_HEX: Final = re.compile(r"\b[0-9a-fA-F]{64}\b")


class Redactor:
    """Knows what is looked for. Matching is the same for upper and lower case."""

    def __init__(self, canaries: Canaries, folders: Iterable[tuple[str, Path]] = (), known: Iterable[str] = ()) -> None:
        """``folders``: of captures, with whose they are; ``known``: hashes that are nobody's and may stand."""
        self._index: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        for needles, whole in ((canaries.secrets, False), (canaries.words, True)):
            for needle in {form for text in needles for form in _forms(text)}:
                if len(needle) >= _KEY:
                    self._index[needle[:_KEY]].append((needle, whole))
        for listed in self._index.values():
            listed.sort(key=lambda entry: -len(entry[0]))
        self._folders = [(re.compile(rf"{re.escape(str(path))}/[^\n\"'<>|]+"), name) for name, path in folders]
        self._known = frozenset(known)
        self.removed = 0
        """How often something was taken out."""

    def clean(self, text: str) -> str:
        """The text without it."""
        for pattern, name in self._folders:
            text, count = pattern.subn(f"[folder of {name}]/{REMOVED}", text)
            self.removed += count
        spots = self._spots(text)
        parts, end = [], 0
        for begin, stop in spots:
            parts += [text[end:begin], REMOVED]
            end = stop
        text = "".join([*parts, text[end:]])
        self.removed += len(spots)
        for pattern in _SHAPES:
            text, count = pattern.subn(REMOVED, text)
            self.removed += count
        return _HEX.sub(self._shortened, text)

    def left(self, text: str) -> int:
        """How much of what must stay here is still in a text."""
        return len(self._spots(text))

    def _shortened(self, found: re.Match[str]) -> str:
        """A hash may be a pseudonym: eight digits are enough to compare two lines."""
        return found[0] if found[0] in self._known else f"{found[0][:8]}…"

    def _spots(self, text: str) -> list[tuple[int, int]]:
        lower = text.lower()
        if len(lower) != len(text):  # a few letters get longer: then places would not fit
            lower = "".join(one.lower() if len(one.lower()) == 1 else one for one in text)
        spots, at, last = [], 0, len(lower) - _KEY
        while at <= last:
            for needle, whole in self._index.get(lower[at : at + _KEY], ()):
                stop = at + len(needle)
                if lower.startswith(needle, at) and not (whole and _inside_a_word(lower, at, stop)):
                    spots.append((at, stop))
                    at = stop - 1
                    break
            at += 1
        return spots


def _forms(text: str) -> Iterator[str]:
    """A text as it may stand in a file: each of its lines, also as JSON writes it."""
    for line in {text, *text.splitlines()}:
        plain = line.strip()
        yield from (plain.lower(), json.dumps(plain)[1:-1].lower(), json.dumps(plain, ensure_ascii=False)[1:-1].lower())


def _inside_a_word(text: str, begin: int, stop: int) -> bool:
    before = begin > 0 and text[begin].isalnum() and text[begin - 1].isalnum()
    return before or (stop < len(text) and text[stop - 1].isalnum() and text[stop].isalnum())
