"""The split keeps lesions and near-copies together, is repeatable, and keeps the external part apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.classes import CLASSES
from training.data import (
    LabelledImage,
    Part,
    difference_hash,
    group_lesions,
    load_pixels,
    near_copies,
    read_tables,
    split,
)


def scene(seed: int, size: int = 96) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (7, 7, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def many_images(count: int = 600) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        lesion = f"lesion-{rng.integers(count // 2)}"  # most lesions have more than one image
        source = "ham10000" if i % 3 else "isic2017"
        official = "val" if source == "isic2017" and i % 15 == 0 else "train"
        images.append(LabelledImage(Path(f"{i}.jpg"), source, lesion, int(rng.integers(7)), official))
    return images


def test_no_lesion_and_no_near_copy_is_in_two_parts() -> None:
    images = many_images()
    copies = [(3, 400), (7, 450), (450, 520), (0, 1)]
    parts = split(images, copies)
    of_lesion: dict[str, set[Part]] = {}
    for image, part in zip(images, parts, strict=True):
        of_lesion.setdefault(image.lesion, set()).add(part)
    assert all(len(found) == 1 for found in of_lesion.values())
    assert all(parts[i] is parts[j] for i, j in copies)
    assert set(parts) == set(Part)


def test_a_near_copy_of_an_external_image_is_external() -> None:
    images = [
        LabelledImage(Path("a"), "isic2017", "a", 0, "val"),
        LabelledImage(Path("b"), "ham10000", "b", 0),
        LabelledImage(Path("c"), "ham10000", "b", 0),
        LabelledImage(Path("d"), "ham10000", "d", 0),
    ]
    parts = split(images, [(0, 1)])
    assert parts[:3] == [Part.EXTERNAL] * 3
    assert parts[3] is not Part.EXTERNAL


def test_split_is_repeatable_and_knows_its_seed() -> None:
    images = many_images()
    assert split(images, [], seed=0) == split(images, [], seed=0)
    assert split(images, [], seed=0) != split(images, [], seed=1)


def test_shares_hold_within_each_class() -> None:
    images = [LabelledImage(Path(f"{i}"), "ham10000", f"l{i}", i % 7) for i in range(1400)]
    parts = split(images, [])
    for k in range(7):
        own = [part for image, part in zip(images, parts, strict=True) if image.label == k]
        assert own.count(Part.VALIDATION) == 24  # 12 % of 200
        assert own.count(Part.TEST) == 30


def test_groups_join_over_lesions_and_copies() -> None:
    images = [LabelledImage(Path(str(i)), "ham10000", name, 0) for i, name in enumerate("aabbcd")]
    groups = group_lesions(images, [(1, 2)])
    assert sorted(sorted(group) for group in groups) == [[0, 1, 2, 3], [4], [5]]


def test_near_copies_are_found_and_others_are_not() -> None:
    pictures = [scene(seed) for seed in range(6)]
    brighter = np.clip(pictures[2].astype(int) + 12, 0, 255).astype(np.uint8)
    code = cv2.imencode(".jpg", pictures[4], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    recompressed = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    pixels = np.stack([*pictures, brighter, recompressed])
    assert near_copies(pixels) == [(2, 6), (4, 7)]
    assert difference_hash(pictures[0]).shape == (32,)


def test_tables_and_pixels_of_the_real_images(shared_data: Path) -> None:
    images = read_tables(shared_data)
    assert len(images) == 5984 + 2000 + 150
    assert sum(image.label == CLASSES.index("melanoma") for image in images if image.source == "ham10000") == 491
    chosen = [images[0], images[-1]]
    loaded = load_pixels(chosen, size=64)
    assert loaded.pixels.shape == (2, 64, 64, 3)
    assert loaded.pixels[0, 32, 32, 0] > loaded.pixels[0, 32, 32, 2]  # RGB: skin is redder than blue


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        load_pixels([LabelledImage(path, "ham10000", "x", 0)])
