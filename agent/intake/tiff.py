"""The directories of a TIFF: how many pages it has, and whether all that they point to is inside the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.intake.headers import BrokenError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_PAGES = 256
_MAX_ENTRIES = 4096
_MAX_VALUES = 1_000_000

_REDUCED, _WIDTH, _HEIGHT, _BITS = 254, 256, 257, 258
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_ORIENTATION, _SAMPLES = 274, 277
_WANTED = {_ORIENTATION, _REDUCED, _WIDTH, _HEIGHT, _BITS, _SAMPLES, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES}


@dataclass(frozen=True)
class Page:
    """One page of a TIFF; sizes in pixels, ``depth`` in bits per channel."""

    index: int
    width: int
    height: int
    depth: int
    samples: int
    orientation: int
    """How it is to be turned, 1 to 8 as in EXIF."""
    thumbnail: bool
    """A smaller copy of another page."""


def read_pages(data: bytes) -> tuple[Page, ...]:
    """Walk all directories of a TIFF or BigTIFF in either byte order.

    Raises:
        BrokenError: a directory, a value or a strip lies outside the file, or there is no end to them.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in {b"+\x00", b"\x00+"}
    word, count_format, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = _number(data, order + word, 8 if big else 4)
    pages: list[Page] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(pages) >= _MAX_PAGES:
            raise BrokenError("the pages of the TIFF have no end")
        seen.add(at)
        count = _number(data, order + count_format, at)
        start = at + struct.calcsize(count_format)
        if count > _MAX_ENTRIES:
            raise BrokenError("a page of the TIFF has too many entries")
        tags: dict[int, tuple[int, ...]] = {}
        for here in range(start, start + count * entry, entry):
            tag, values = _entry(data, order, here, big=big)
            if values is not None:
                tags[tag] = values
        at = _number(data, order + word, start + count * entry)
        pages.append(_page(len(pages), tags, len(data)))
    if not pages:
        raise BrokenError("the TIFF has no page", truncated=True)
    return tuple(pages)


def _page(index: int, tags: dict[int, tuple[int, ...]], size: int) -> Page:
    """Check that a page's strips or tiles lie inside the file."""
    for starts, lengths in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        ends = zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)
        if any(start + length > size for start, length in ends):
            raise BrokenError("a part of the TIFF reaches behind the end of the file", truncated=True)
    if not (tags.get(_STRIPS) or tags.get(_TILES)):
        raise BrokenError("a page of the TIFF has no pixels")
    return Page(
        index,
        tags.get(_WIDTH, (0,))[0],
        tags.get(_HEIGHT, (0,))[0],
        max(tags.get(_BITS, (1,))),
        tags.get(_SAMPLES, (1,))[0],
        tags.get(_ORIENTATION, (1,))[0],
        bool(tags.get(_REDUCED, (0,))[0] & 1),
    )


def _entry(data: bytes, order: str, at: int, *, big: bool) -> tuple[int, tuple[int, ...] | None]:
    """One directory entry: its tag, and its values where they are whole numbers that matter here."""
    try:
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
    except struct.error:
        raise BrokenError("the TIFF ends within a page", truncated=True) from None
    inline, place = (8, at + 12) if big else (4, at + 8)
    if tag not in _WANTED or kind not in _LETTERS or not count:
        return tag, None
    if count > _MAX_VALUES:
        raise BrokenError("an entry of the TIFF is too long")
    if count * _SIZES[kind] > inline:
        place = _number(data, order + ("Q" if big else "I"), place)
    try:
        return tag, struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", data, place)
    except struct.error:
        raise BrokenError("an entry of the TIFF lies behind the end of the file", truncated=True) from None


def _number(data: bytes, form: str, at: int) -> int:
    try:
        return int(struct.unpack_from(form, data, at)[0])
    except struct.error:
        raise BrokenError("the TIFF ends too early", truncated=True) from None
