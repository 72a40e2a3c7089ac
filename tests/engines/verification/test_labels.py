"""Pictures and their labels: what is wrong is said with file and line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.classes import CLASSES
from engines.verification.labels import SHORT_CODES, PicturesError, digest, draw, find_pictures, read_rgb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.PNG", "twice.png", "twice.jpg")):
        cv2.imwrite(str(place / name.lower()), np.full((8, 12, 3), 40 * number, np.uint8))
    (place / "c.png").rename(place / "c.PNG")
    (place / "notes.txt").write_text("not a picture")
    return place


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_folder_alone_gives_every_picture_unlabelled(folder: Path) -> None:
    found = find_pictures(folder)
    assert [picture.path.name for picture in found] == ["a.png", "b.jpg", "c.PNG", "twice.jpg", "twice.png"]
    assert {picture.label for picture in found} == {None}


def test_both_kinds_of_class_names_are_read(tmp_path: Path, folder: Path) -> None:
    text = "\ufeffimage,label\r\nb,MEL\r\n\r\n a.png , melanocytic_nevus\r\ntwice.jpg,akiec\r\n"
    found = find_pictures(folder, table(tmp_path, text))
    assert [(picture.path.name, picture.label) for picture in found] == [("b.jpg", 0), ("a.png", 4), ("twice.jpg", 6)]


def test_the_short_codes_stand_for_all_classes_in_order() -> None:
    assert tuple(SHORT_CODES.values()) == CLASSES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: the header is ''"),
        ("image_id,dx\na,mel\n", ":1: the header is 'image_id,dx'; write 'image,label'"),
        ("image,label\n", "holds no row below its header"),
        ("image,label\na,mel\nnowhere,nv\n", ":3: image 'nowhere': .*holds no such picture"),
        ("image,label\nnotes.txt,nv\n", ":2: image 'notes.txt': .*holds no such picture"),
        ("image,label\na,melanom\n", ":2: label 'melanom' is no class; write one of melanoma, .*akiec"),
        ("image,label\na\n", ":2: 'a' is not one image and one label"),
        ("image,label\na,mel,0.9\n", ":2: 'a,mel,0.9' is not one image and one label"),
        ("image,label\na,\n", ":2: 'a,' is not one image and one label"),
        ("image,label\na,mel\na.png,nv\n", ":3: image 'a.png' was labelled before"),
        ("image,label\ntwice,nv\n", ":2: image 'twice': .*write the suffix"),
        (b"image,label\n\xff\xfe,mel\n", "is no CSV text in UTF-8"),
        ('image,label\n"a,mel\n', "is no CSV text in UTF-8"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, folder: Path, text: str | bytes, words: str) -> None:
    labels = table(tmp_path, text)
    with pytest.raises(PicturesError, match=words) as caught:
        find_pictures(folder, labels)
    assert str(caught.value).startswith(str(labels))


def test_what_is_not_there_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(PicturesError, match="cannot be listed"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(PicturesError, match=r"labels\.csv: cannot be read \(No such file"):
        find_pictures(folder, tmp_path / "labels.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PicturesError, match="holds no picture"):
        find_pictures(tmp_path / "empty")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(PicturesError, match=r"x\.png: the picture cannot be decoded; mend it or leave it out"):
        read_rgb(path)


def test_colours_are_red_first(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert read_rgb(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]


def test_a_draw_repeats_itself(folder: Path) -> None:
    pictures = find_pictures(folder)
    assert draw(pictures, 3, 1) == draw(pictures, 3, 1)
    assert len(draw(pictures, 3, 1)) == 3
    assert any(draw(pictures, 3, seed) != draw(pictures, 3, 1) for seed in range(2, 9))
    assert draw(pictures, None) == draw(pictures, 99) == pictures


def test_a_digest_changes_with_a_picture_or_a_label(tmp_path: Path, folder: Path) -> None:
    first = find_pictures(folder, table(tmp_path, "image,label\na,mel\nb,nv\n"))
    same = find_pictures(folder, table(tmp_path, "image,label\na,melanoma\nb,nv\n"))
    other = find_pictures(folder, table(tmp_path, "image,label\na,nv\nb,nv\n"))
    assert digest(first) == digest(same) != digest(other)
    before = digest(first)
    cv2.imwrite(str(folder / "a.png"), np.full((8, 12, 3), 7, np.uint8))
    assert digest(first) != before
