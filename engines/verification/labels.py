"""The pictures that a verification runs on: a folder, and a table of labels where there is one."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.classes import CLASSES

SHORT_CODES: Final[Mapping[str, str]] = {
    "mel": "melanoma",
    "bcc": "basal_cell_carcinoma",
    "bkl": "benign_keratosis",
    "df": "dermatofibroma",
    "nv": "melanocytic_nevus",
    "vasc": "vascular_lesion",
    "akiec": "actinic_keratosis",
}
"""HAM10000's and ISIC 2018's names of the classes."""
HEADER: Final = ["image", "label"]
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


class PicturesError(Exception):
    """The pictures or their labels cannot be used; the message names file and line, what is wrong and what to do."""


@dataclass(frozen=True)
class Picture:
    """One picture; ``label`` indexes ``engines.classes.CLASSES``, None where it is not known."""

    path: Path
    label: int | None = None


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Decode a picture: ``[H, W, 3]`` uint8, RGB, upright.

    Raises:
        PicturesError: it cannot be read or decoded.
    """
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error) as error:
        raise PicturesError(f"{path}: the picture cannot be read ({error}); mend it or leave it out") from error
    if bgr is None:
        raise PicturesError(f"{path}: the picture cannot be decoded; mend it or leave it out")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def find_pictures(folder: Path, labels: Path | None = None) -> list[Picture]:
    """The pictures of a verification, in order of their names, or in the table's order.

    Args:
        folder: holds the pictures.
        labels: CSV with the header ``image,label``: a file name with or without its suffix, and a class name of
            ``engines.classes`` or HAM10000's short code. Only pictures in the table are taken.

    Raises:
        PicturesError: nothing to run on, or a row that cannot be used.
    """
    try:
        files = {path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    except OSError as error:
        raise PicturesError(f"{folder}: cannot be listed ({error.strerror}); name a folder with pictures") from error
    if not files:
        raise PicturesError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}); name a folder with pictures")
    if labels is None:
        return [Picture(path) for path in files.values()]
    return _labelled(files, folder, labels)


def _labelled(files: Mapping[str, Path], folder: Path, labels: Path) -> list[Picture]:
    stems: dict[str, list[str]] = {}
    for name in files:
        stems.setdefault(Path(name).stem, []).append(name)
    pictures: dict[str, Picture] = {}
    for line, (image, label) in _rows(labels):
        names = [image] if image in files else stems.get(image, [])
        if len(names) != 1:
            found = f"{folder} holds {names}: write the suffix" if names else f"{folder} holds no such picture"
            raise PicturesError(f"{labels}:{line}: image {image!r}: {found}")
        name = SHORT_CODES.get(label.lower(), label.lower())
        if name not in CLASSES:
            allowed = ", ".join([*CLASSES, *SHORT_CODES])
            raise PicturesError(f"{labels}:{line}: label {label!r} is no class; write one of {allowed}")
        if names[0] in pictures:
            raise PicturesError(f"{labels}:{line}: image {image!r} was labelled before; leave one row for each picture")
        pictures[names[0]] = Picture(files[names[0]], CLASSES.index(name))
    if not pictures:
        raise PicturesError(f"{labels}: holds no row below its header; add image,label rows")
    return list(pictures.values())


def _rows(labels: Path) -> list[tuple[int, tuple[str, str]]]:
    """Line numbers and the two values of each row; empty lines are passed over."""
    try:
        with labels.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if header != HEADER:
                raise PicturesError(f"{labels}:1: the header is {','.join(header)!r}; write {','.join(HEADER)!r}")
            rows = []
            for row in reader:
                values = [value.strip() for value in row]
                if not any(values):
                    continue
                if len(values) != 2 or not all(values):
                    raise PicturesError(
                        f"{labels}:{reader.line_num}: {','.join(values)!r} is not one image and one label; mend the row"
                    )
                rows.append((reader.line_num, (values[0], values[1])))
            return rows
    except OSError as error:
        raise PicturesError(f"{labels}: cannot be read ({error.strerror}); name a CSV file") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise PicturesError(f"{labels}: is no CSV text in UTF-8 ({error}); save it as such") from error


def draw(pictures: Sequence[Picture], limit: int | None, seed: int = 0) -> list[Picture]:
    """At most ``limit`` of the pictures, drawn at random (the same for the same seed), in their order."""
    if limit is None or limit >= len(pictures):
        return list(pictures)
    chosen = sorted(random.Random(seed).sample(range(len(pictures)), limit))  # noqa: S311 - a sample, no secret
    return [pictures[index] for index in chosen]


def digest(pictures: Sequence[Picture]) -> str:
    """One sha256 of the pictures' names, contents and labels, so that a figure can be traced to what it was taken on.

    Raises:
        PicturesError: a picture cannot be read.
    """
    whole = hashlib.sha256()
    for picture in pictures:
        try:
            content = hashlib.sha256(picture.path.read_bytes()).hexdigest()
        except OSError as error:
            raise PicturesError(
                f"{picture.path}: cannot be read ({error.strerror}); mend it or leave it out"
            ) from error
        whole.update(f"{picture.path.name}\0{content}\0{picture.label}\n".encode())
    return whole.hexdigest()
