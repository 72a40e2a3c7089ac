"""Sidecars: what is right is used, what is wrong is named, and no capture is refused for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.intake.sidecar import MAX_BYTES, Sidecar, read_sidecar, sidecar_path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "lesion.1.jpg"


def write(capture: Path, content: object) -> None:
    sidecar_path(capture).write_text(json.dumps(content))


def test_everything_right(capture: Path) -> None:
    write(capture, {"patient_id": "P-1", "body_site": "back", "age": 61, "sex": "Female", "skin_type": 3})
    assert read_sidecar(capture) == Sidecar("P-1", "back", 61, "female", "III")


def test_none_at_all_is_no_warning(capture: Path) -> None:
    assert read_sidecar(capture) == Sidecar()


def test_a_byte_order_mark_numbers_and_absent_values(capture: Path) -> None:
    sidecar_path(capture).write_bytes(b'\xef\xbb\xbf{"patient_id": 17, "age": "60", "sex": "", "skin_type": "iv"}')
    assert read_sidecar(capture) == Sidecar(patient_id="17", age=60, skin_type="IV")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patient_id", "x" * 65),
        ("patient_id", "a\nb"),
        ("patient_id", True),
        ("body_site", ["back"]),
        ("age", -1),
        ("age", 121),
        ("age", 3.5),
        ("age", True),
        ("age", "old"),
        ("sex", "f"),
        ("skin_type", "VII"),
        ("skin_type", 0),
        ("skin_type", True),
    ],
)
def test_a_wrong_value_is_left_out_and_named_but_not_shown(capture: Path, key: str, value: object) -> None:
    write(capture, {"patient_id": "P-1", "age": 5} | {key: value})
    sidecar = read_sidecar(capture)
    assert sidecar.warning is not None
    assert key in sidecar.warning
    assert "P-1" not in sidecar.warning
    assert getattr(sidecar, key) is None
    assert (sidecar.patient_id if key != "patient_id" else sidecar.age) in {"P-1", 5}


def test_unknown_entries_are_named(capture: Path) -> None:
    write(capture, {"patient_id": "P-1", "pacient": "x", "\x1b[31m": 1} | {f"key{number}": 1 for number in range(9)})
    sidecar = read_sidecar(capture)
    assert sidecar.patient_id == "P-1"
    assert sidecar.warning is not None
    assert "not known: ?[31m, key0" in sidecar.warning
    assert "and 6 more" in sidecar.warning


@pytest.mark.fault("F05")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe\x00",
        b'{"age": ' + b"[" * 20_000,
        b" " * (MAX_BYTES + 1),
        b'{"age": 1e999}',
    ],
)
def test_anything_else_is_a_warning(capture: Path, data: bytes) -> None:
    sidecar_path(capture).write_bytes(data)
    warning = read_sidecar(capture).warning
    assert warning
    assert "lesion.1.json" in warning


@pytest.mark.fault("F05")
def test_what_is_no_file_is_not_waited_for(capture: Path) -> None:
    os.mkfifo(sidecar_path(capture))
    assert read_sidecar(capture) == Sidecar()
