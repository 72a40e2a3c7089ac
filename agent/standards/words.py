"""Text that others have written, as the standards allow it to stand."""

from __future__ import annotations

import unicodedata
from typing import Final

NOT_TEXT: Final = frozenset({"Cc", "Cs"})
"""Control characters and halves of characters; the spaces of every writing are none of them."""
_LAYOUT: Final = "\t\r\n"


def usable(text: str) -> bool:
    """Whether a text may stand as it is: not empty, and without control characters but those of layout."""
    return bool(text.strip()) and all(_allowed(letter) for letter in text)


def clean(text: str) -> str:
    """A text for people, with a question mark for each character that may not stand. Never for an id."""
    return "".join(letter if _allowed(letter) else "?" for letter in text).strip() or "?"


def _allowed(letter: str) -> bool:
    return letter in _LAYOUT or unicodedata.category(letter) not in NOT_TEXT
