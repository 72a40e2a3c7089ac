"""Rows out of a SQLite file page by page, without its trees: what is left when the way to a page is damaged (F10).

File format: https://www.sqlite.org/fileformat2.html (b-tree pages, overflow pages, the record format). Nothing is
believed: whatever does not fit is passed over, and the caller holds each row against the rules of its table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = "int | float | str | bytes | None"
Buffer: TypeAlias = "bytes | memoryview"

TABLE_LEAF: Final = 0x0D
_FIRST_PAGE: Final = 100
"""Bytes of the file's header, before the first page's own."""
_NUMBERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of an integer by its serial type."""


@dataclass(frozen=True)
class Row:
    """A record in a leaf of some table."""

    rowid: int
    values: tuple[Value, ...]
    """As they are stored: an INTEGER PRIMARY KEY is None, and columns that were added later may be missing."""


class _Unfit(Exception):
    """These bytes are no record."""


def rows(data: Buffer, page_size: int, columns: frozenset[int]) -> Iterator[Row]:
    """Every record of a leaf page that can be read, in the order of the pages.

    Args:
        data: the file's content.
        page_size: in bytes.
        columns: only records with so many values.
    """
    view = memoryview(data)
    for number in range(1, len(view) // page_size + 1):
        page = view[(number - 1) * page_size : number * page_size]
        start = _FIRST_PAGE if number == 1 else 0
        if page[start] != TABLE_LEAF:
            continue
        count = min(int.from_bytes(page[start + 3 : start + 5], "big"), (page_size - start - 8) // 2)
        for cell in range(count):
            at = start + 8 + 2 * cell
            try:
                row = _cell(view, page, int.from_bytes(page[at : at + 2], "big"), page_size, columns)
            except (_Unfit, IndexError, struct.error, UnicodeDecodeError):
                continue
            if row is not None:
                yield row


def _cell(view: memoryview, page: memoryview, at: int, page_size: int, columns: frozenset[int]) -> Row | None:
    if not 8 <= at < page_size - 4:
        raise _Unfit
    length, at = _varint(page, at)
    rowid, at = _varint(page, at)
    local = _local_bytes(length, page_size)
    if length > len(view) or at + local > page_size:
        raise _Unfit
    # Most records are of no interest, and long ones cost their overflow: the header is in what is local, nearly always.
    if local < length and _columns(page[at : at + local]) not in columns:
        return None
    payload = page[at : at + local]
    if local < length:
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        payload = memoryview(bytes(payload) + _overflow(view, following, length - local, page_size))
    values = _record(payload)
    return Row(rowid - (1 << 64) if rowid >> 63 else rowid, values) if len(values) in columns else None


def _local_bytes(length: int, page_size: int) -> int:
    """How much of a payload is in the page itself, with no bytes reserved at a page's end."""
    most = page_size - 35
    if length <= most:
        return length
    least = (page_size - 12) * 32 // 255 - 23
    local = least + (length - least) % (page_size - 4)
    return local if local <= most else least


def _overflow(view: memoryview, number: int, length: int, page_size: int) -> bytes:
    """So many bytes out of a chain of pages, of which each names the next."""
    parts = bytearray()
    while len(parts) < length:  # each page adds to it, so that a circle ends as well
        if not 1 < number <= len(view) // page_size:
            raise _Unfit
        start = (number - 1) * page_size
        parts += view[start + 4 : start + 4 + min(page_size - 4, length - len(parts))]
        number = int.from_bytes(view[start : start + 4], "big")
    return bytes(parts)


def _types(payload: memoryview) -> tuple[list[int], int]:
    """The serial types of a record, and where its values begin."""
    size, at = _varint(payload, 0)
    if not at <= size <= len(payload):
        raise _Unfit
    types = []
    while at < size:
        kind, at = _varint(payload, at)
        types.append(kind)
    if at != size:
        raise _Unfit
    return types, at


def _columns(payload: memoryview) -> int:
    try:
        return len(_types(payload)[0])
    except (_Unfit, IndexError):
        return -1


def _record(payload: memoryview) -> tuple[Value, ...]:
    types, at = _types(payload)
    values: list[Value] = []
    for kind in types:
        value, at = _value(payload, kind, at)
        values.append(value)
    if at != len(payload):
        raise _Unfit
    return tuple(values)


def _value(payload: memoryview, kind: int, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in {8, 9}:
        return kind - 8, at
    if kind in {10, 11}:
        raise _Unfit
    size = 8 if kind == 7 else _NUMBERS.get(kind) or (kind - 12) // 2
    content = bytes(payload[at : at + size])
    if len(content) != size:
        raise _Unfit
    value: Value
    if kind == 7:
        value = float(struct.unpack(">d", content)[0])
    elif kind in _NUMBERS:
        value = int.from_bytes(content, "big", signed=True)
    else:
        value = content.decode("utf-8") if kind % 2 else content
    return value, at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A variable-length integer of up to nine bytes, and where what follows begins."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9
