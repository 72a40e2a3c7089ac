"""The labelled images: reading them, and splitting them so that no lesion is in two parts."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.classes import CLASSES, MELANOMA

ASPECT: Final = 4 / 3
"""Width over height of the originals. The copies were squashed to squares; crops follow the original's geometry."""


class Part(str, Enum):
    """What an image may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    EXTERNAL = "external"
    """The ISIC 2017 validation images: another site, never trained on nor chosen by."""


PART_SHARES: Final = {Part.VALIDATION: 0.12, Part.TEST: 0.15}


@dataclass(frozen=True)
class LabelledImage:
    """One image file and what is known of it; ``label`` indexes ``engines.classes.CLASSES``."""

    path: Path
    source: str
    lesion: str
    label: int
    official_part: str = ""


@dataclass(frozen=True)
class ImageSet:
    """Images in memory: ``pixels`` uint8 ``[N, S, S, 3]`` RGB (squashed squares), ``labels`` int64 ``[N]``."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """The data set of each image, where it is known."""


def read_tables(root: Path) -> list[LabelledImage]:
    """List the images under ``root`` (``ham10000/`` and ``isic2017/`` with their ``labels.csv``).

    ISIC 2017 knows melanoma, seborrhoeic keratosis (one of our benign keratoses) and, where neither, nevus.
    """
    images = []
    with (root / "ham10000" / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            path = root / "ham10000" / "images" / f"{row['image_id']}.jpg"
            images.append(LabelledImage(path, "ham10000", row["lesion_id"], CLASSES.index(row["diagnosis"])))
    with (root / "isic2017" / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            if float(row["melanoma"]):
                name = MELANOMA
            else:
                name = "benign_keratosis" if float(row["seborrheic_keratosis"]) else "melanocytic_nevus"
            path = root / "isic2017" / row["split"] / f"{row['image_id']}.jpg"
            images.append(LabelledImage(path, "isic2017", row["image_id"], CLASSES.index(name), row["split"]))
    return images


def load_pixels(images: Sequence[LabelledImage], size: int = 224) -> ImageSet:
    """Read the images into memory at ``size`` x ``size`` pixels, RGB."""
    pixels = np.empty((len(images), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        bgr = cv2.imread(str(image.path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"{image.path}: cannot be read as an image; fetch the data set again")
        if bgr.shape[:2] != (size, size):
            bgr = cv2.resize(bgr, (size, size), interpolation=cv2.INTER_AREA)
        pixels[i] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    labels = np.array([image.label for image in images], np.int64)
    return ImageSet(pixels, labels, tuple(image.path.stem for image in images))


def difference_hash(rgb: NDArray[np.uint8], side: int = 16) -> NDArray[np.uint8]:
    """A perceptual hash of an ``[H, W, 3]`` image: ``side * side`` bits, packed; near-copies differ in few bits."""
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (side + 1, side), interpolation=cv2.INTER_AREA)
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def near_copies(pixels: NDArray[np.uint8], max_bits: int = 20) -> list[tuple[int, int]]:
    """Pairs ``(i, j)``, ``i < j``, of images whose 256-bit difference hashes differ in at most ``max_bits`` bits."""
    hashes = np.stack([difference_hash(image) for image in pixels])
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
    pairs: list[tuple[int, int]] = []
    for i in range(len(hashes) - 1):
        distance = ones[hashes[i + 1 :] ^ hashes[i]].sum(axis=1, dtype=np.int32)
        pairs.extend((i, i + 1 + int(j)) for j in np.flatnonzero(distance <= max_bits))
    return pairs


def group_lesions(images: Sequence[LabelledImage], copies: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Indices of the images that show one lesion: the same lesion id, or near-copies of each other."""
    parent = list(range(len(images)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, image in enumerate(images):
        parent[root(i)] = root(first.setdefault(image.lesion, i))
    for i, j in copies:
        parent[root(i)] = root(j)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(images)):
        groups[root(i)].append(i)
    return list(groups.values())


def split(images: Sequence[LabelledImage], copies: Sequence[tuple[int, int]], seed: int = 0) -> list[Part]:
    """Give every image a part, whole lesions at a time, stratified by source and class, the same for the same seed.

    A group that holds an official ISIC 2017 validation image is external as a whole, so no near-copy of one is
    trained on.
    """
    parts = [Part.TRAIN] * len(images)
    strata: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
    for group in group_lesions(images, copies):
        if any(images[i].official_part == "val" for i in group):
            for i in group:
                parts[i] = Part.EXTERNAL
        else:
            strata[images[group[0]].source, images[group[0]].label].append(group)
    for groups in strata.values():
        groups.sort(key=lambda group: hashlib.sha256(f"{seed}:{images[group[0]].lesion}".encode()).digest())
        start = 0
        for part, share in PART_SHARES.items():
            stop = start + round(share * len(groups))
            for group in groups[start:stop]:
                for i in group:
                    parts[i] = part
            start = stop
    return parts


def parts_of(root: Path, seed: int = 0) -> dict[Part, ImageSet]:
    """Read all images under ``root`` and split them by lesion."""
    images = read_tables(root)
    everything = load_pixels(images)
    parts = np.array([part.value for part in split(images, near_copies(everything.pixels), seed)])
    sets = {}
    for part in Part:
        index = np.flatnonzero(parts == part.value)
        names = tuple(everything.names[i] for i in index)
        sources = tuple(images[i].source for i in index)
        sets[part] = ImageSet(everything.pixels[index], everything.labels[index], names, sources)
    return sets
