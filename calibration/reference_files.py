"""A vendor's own chart from a file: JSON, or CGATS text as measuring software writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.colour import xyz_to_lab
from calibration.references import COLORCHECKER24, FloatArray, ReferenceChart, ReferenceUnreadable

NEUTRAL_CHROMA: Final = 4.0
"""C*ab below which a patch counts as grey where a file does not say which are (the classic's white has 3.1)."""
LARGEST_FILE: Final = 1_000_000
FEWEST_PATCHES: Final = 6
"""Fewer could not be told from anything else by their colours."""
MOST_PATCHES: Final = 1024


def read_reference(path: Path) -> ReferenceChart:
    """Read a vendor's target: JSON (see :class:`TargetFile`) or CGATS text with LAB or XYZ columns.

    Args:
        path: the file; told apart by its content, not by its name.

    Raises:
        ReferenceUnreadable: missing, too large, not one of the two formats, or values no chart can have.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ReferenceUnreadable(
                f"{path}: larger than {LARGEST_FILE // 1_000_000} MB, no reference file is; check the path"
            )
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ReferenceUnreadable(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return _from_json(path, text) if text.lstrip().startswith("{") else _from_cgats(path, text)


class TargetPatch(BaseModel):
    """One patch of a vendor's JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=80)
    lab: tuple[float, float, float]


class TargetFile(BaseModel):
    """A vendor's target as JSON: the patches in rows from the top left; ``neutral`` names the grey ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=200)
    rows: int = Field(ge=1, le=64)
    columns: int = Field(ge=1, le=64)
    illuminant: str = Field(default="D50", pattern="^D50$")
    patches: tuple[TargetPatch, ...] = Field(min_length=FEWEST_PATCHES, max_length=MOST_PATCHES)
    neutral: tuple[str, ...] | None = None


def _from_json(path: Path, text: str) -> ReferenceChart:
    try:
        target = TargetFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ReferenceUnreadable(f"{path}: {where}: {first['msg']}; mend the file") from None
    names = tuple(patch.name for patch in target.patches)
    neutral = None
    if target.neutral is not None:
        unknown = [name for name in target.neutral if name not in names]
        if unknown:
            raise ReferenceUnreadable(f"{path}: neutral: there is no patch {unknown[0]!r}; name patches of the list")
        neutral = [names.index(name) for name in target.neutral]
    lab = np.array([patch.lab for patch in target.patches], dtype=np.float64)
    return _chart(path, target.name, (names, lab), (target.rows, target.columns), neutral)


def _from_cgats(path: Path, text: str) -> ReferenceChart:
    header, fields, rows = _cgats_table(path, text)
    columns = {name.upper(): index for index, name in enumerate(fields)}
    kind = next((k for k in ("LAB_L LAB_A LAB_B", "XYZ_X XYZ_Y XYZ_Z") if all(f in columns for f in k.split())), None)
    if kind is None:
        raise ReferenceUnreadable(
            f"{path}: neither LAB_L LAB_A LAB_B nor XYZ_X XYZ_Y XYZ_Z is among its columns; export it with Lab D50"
        )
    if (light := header.get("ILLUMINATION_NAME", header.get("ILLUMINANT", "D50")).upper()) != "D50":
        raise ReferenceUnreadable(f"{path}: its values are for {light}; export it for D50")
    try:
        values = np.array([[float(row[columns[f]]) for f in kind.split()] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise ReferenceUnreadable(f"{path}: a colour is not a number ({error}); mend the file") from None
    label = next((columns[f] for f in ("SAMPLE_NAME", "SAMPLE_ID", "SAMPLEID") if f in columns), None)
    names = [row[label] if label is not None else str(number) for number, row in enumerate(rows, start=1)]
    order, shape = _grid(path, names, header)
    lab = values if kind.startswith("LAB") else xyz_to_lab(values / 100.0)
    title = header.get("DESCRIPTOR") or header.get("ORIGINATOR") or path.stem
    return _chart(path, title, (tuple(names[i] for i in order), lab[order]), shape)


def _cgats_table(path: Path, text: str) -> tuple[dict[str, str], list[str], list[list[str]]]:
    """Split a CGATS.17 text into its keywords, its column names and its rows of words."""
    lines = [re.findall(r'"[^"]*"|[^\s,;]+', line.split("#")[0]) for line in text.splitlines()]
    words = [[word.strip('"') for word in line] for line in lines if line]
    fields = [field for line in _section(words, "DATA_FORMAT") for field in line]
    rows = _section(words, "DATA")
    if not fields or not FEWEST_PATCHES <= len(rows) <= MOST_PATCHES:
        raise ReferenceUnreadable(
            f"{path}: no reference file: give JSON, or CGATS text with BEGIN_DATA_FORMAT and BEGIN_DATA and "
            f"{FEWEST_PATCHES} to {MOST_PATCHES} rows"
        )
    for row in rows:
        if len(row) != len(fields):
            raise ReferenceUnreadable(
                f"{path}: the row {' '.join(row)[:60]!r} has {len(row)} values for {len(fields)} columns; mend the file"
            )
    header = {line[0].upper(): " ".join(line[1:]) for line in words if len(line) > 1 and line not in rows}
    stated = header.get("NUMBER_OF_SETS", str(len(rows)))
    if stated != str(len(rows)):
        raise ReferenceUnreadable(
            f"{path}: NUMBER_OF_SETS is {stated} and {len(rows)} rows are there; the file is cut off, fetch it again"
        )
    return header, fields, rows


def _section(lines: list[list[str]], name: str) -> list[list[str]]:
    """The lines between BEGIN_name and END_name; empty where either is missing."""
    keywords = [line[0].upper() for line in lines]
    try:
        begin = keywords.index(f"BEGIN_{name}")
        return lines[begin + 1 : keywords.index(f"END_{name}", begin)]
    except ValueError:
        return []


def _grid(path: Path, names: list[str], header: dict[str, str]) -> tuple[list[int], tuple[int, int]]:
    """Where each sample lies: from names such as B3 (letter = column, as chart makers write it), or the row length."""
    count = len(names)
    places = [re.fullmatch(r"([A-Za-z])(\d{1,2})", name) for name in names]
    if all(places):
        columns = [ord(place[1].upper()) - ord("A") for place in places if place]
        rows = [int(place[2]) - 1 for place in places if place]
        shape = (max(rows) + 1, max(columns) + 1)
        order = sorted(range(count), key=lambda i: (rows[i], columns[i]))
        if shape[0] * shape[1] == count and len(set(zip(rows, columns, strict=True))) == count:
            return order, shape
    length = header.get("LGOROWLENGTH", "")
    if length.isdecimal() and int(length) > 0 and count % int(length) == 0:
        return list(range(count)), (count // int(length), int(length))
    if count == COLORCHECKER24.rows * COLORCHECKER24.columns:
        return list(range(count)), (COLORCHECKER24.rows, COLORCHECKER24.columns)
    raise ReferenceUnreadable(
        f"{path}: it does not say how its {count} patches lie; add LGOROWLENGTH (patches in a row), or write it as "
        "JSON with rows and columns"
    )


def _chart(
    path: Path,
    name: str,
    patches: tuple[tuple[str, ...], FloatArray],
    shape: tuple[int, int],
    neutral: list[int] | None = None,
) -> ReferenceChart:
    """Check the names and Lab values as a whole and build the chart."""
    names, lab = patches
    sane = np.isfinite(lab) & (np.abs(lab - [50.0, 0.0, 0.0]) <= [50.5, 160.0, 160.0])
    if shape[0] * shape[1] != len(names):
        problem = f"{shape[0]} rows x {shape[1]} columns are not its {len(names)} patches; mend rows or columns"
    elif min(shape) < 2:
        problem = "one row of patches looks the same mirrored; a chart needs 2 rows and 2 columns"
    elif len(set(names)) != len(names):
        twice = next(each for each in names if names.count(each) > 1)
        problem = f"two patches are called {twice!r}; give each its own name"
    elif not sane.all():
        wrong = names[int(np.argmin(sane.all(axis=1)))]
        problem = f"the patch {wrong!r} has no possible Lab value (L 0..100, a and b within 160); mend the file"
    else:
        if neutral is None:
            neutral = [int(i) for i in np.flatnonzero(np.hypot(lab[:, 1], lab[:, 2]) < NEUTRAL_CHROMA)]
        lightest_first = sorted(set(neutral), key=lambda i: -float(lab[i, 0]))
        return ReferenceChart(name, names, lab, shape[0], shape[1], tuple(lightest_first))
    raise ReferenceUnreadable(f"{path}: {problem}")
