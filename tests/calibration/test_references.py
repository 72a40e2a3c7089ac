"""The chart's known colours and the readers of a vendor's own: right values in, one clear sentence for the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.colour import lab_to_xyz
from calibration.reference_files import read_reference
from calibration.references import COLORCHECKER24, ReferenceChart, ReferenceUnreadable

NAMES = [f"{letter}{row}" for letter in "ABC" for row in (1, 2)]


def as_json(**changes: object) -> dict[str, object]:
    patches = [{"name": f"p{n}", "lab": [90.0 - 12 * n, 12.0 * (n % 3), -8.0 * (n % 2)]} for n in range(6)]
    return {"name": "small target", "rows": 2, "columns": 3, "patches": patches} | changes


def as_cgats(rows: list[str], columns: str = "SAMPLE_NAME LAB_L LAB_A LAB_B", head: str = "") -> str:
    return (
        f"CGATS.17\n{head}NUMBER_OF_SETS {len(rows)}\nBEGIN_DATA_FORMAT\n{columns}\nEND_DATA_FORMAT\n"
        "BEGIN_DATA\n" + "\n".join(rows) + "\nEND_DATA\n"
    )


def test_the_classic_equals_the_published_values() -> None:
    colour = pytest.importorskip("colour")
    published = colour.CCS_COLOURCHECKERS["ColorChecker24 - After November 2014"]
    lab = [colour.XYZ_to_Lab(colour.xyY_to_XYZ(xyy), published.illuminant) for xyy in published.data.values()]
    np.testing.assert_allclose(COLORCHECKER24.lab_d50, lab, atol=0.006)
    assert all(theirs.startswith(ours) for theirs, ours in zip(published.data, COLORCHECKER24.patch_names, strict=True))


def test_the_classic_is_laid_out_as_printed() -> None:
    assert (COLORCHECKER24.rows, COLORCHECKER24.columns) == (4, 6)
    assert COLORCHECKER24.patch_names[0] == "dark skin"
    assert COLORCHECKER24.patch_names[23] == "black"
    grey = COLORCHECKER24.lab_d50[list(COLORCHECKER24.neutral)]
    assert (np.diff(grey[:, 0]) < 0).all(), "from light to dark"
    with pytest.raises(ValueError, match="read-only"):
        COLORCHECKER24.lab_d50[0, 0] = 1.0


def test_a_chart_must_be_whole() -> None:
    with pytest.raises(ValueError, match="needs 6 names"):
        ReferenceChart("x", ("a",) * 5, np.zeros((6, 3)), 2, 3, ())
    with pytest.raises(ValueError, match="same name"):
        ReferenceChart("x", ("a",) * 6, np.zeros((6, 3)), 2, 3, ())


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    path.write_text(json.dumps(as_json(neutral=["p0", "p2"])), encoding="utf-8-sig")
    chart = read_reference(path)
    assert (chart.name, chart.rows, chart.columns) == ("small target", 2, 3)
    assert chart.lab_d50[1].tolist() == [78.0, 12.0, -8.0]
    assert chart.neutral == (0, 2)


def test_grey_patches_are_recognised_where_the_file_does_not_name_them(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    path.write_text(json.dumps(as_json()))
    assert read_reference(path).neutral == (0,), "p0 is the only one without chroma"


def test_cgats_letters_are_columns(tmp_path: Path) -> None:
    """As the makers of the 24-patch chart write it: A1, A2, ... run down the first column."""
    path = tmp_path / "target.txt"
    path.write_text(as_cgats([f"{name} {50 + n} {n} {-n}" for n, name in enumerate(NAMES)], head='DESCRIPTOR "Mine"\n'))
    chart = read_reference(path)
    assert (chart.name, chart.rows, chart.columns) == ("Mine", 2, 3)
    assert chart.patch_names == ("A1", "B1", "C1", "A2", "B2", "C2")
    assert chart.lab_d50[:, 0].tolist() == [50, 52, 54, 51, 53, 55]


def test_cgats_xyz_and_row_length(tmp_path: Path) -> None:
    lab = np.array([[50.0 + n, 3.0 * n, -2.0 * n] for n in range(6)])
    rows = [f"{n + 1}\t" + "\t".join(f"{v * 100:.6f}" for v in lab_to_xyz(each)) for n, each in enumerate(lab)]
    path = tmp_path / "target.cgats"
    path.write_text(as_cgats(rows, "SAMPLE_ID XYZ_X XYZ_Y XYZ_Z", 'LGOROWLENGTH 3\nILLUMINATION_NAME "D50"  # seen\n'))
    chart = read_reference(path)
    assert (chart.rows, chart.columns) == (2, 3)
    np.testing.assert_allclose(chart.lab_d50, lab, atol=1e-3)


def test_a_cgats_file_of_the_24_patches_needs_no_layout(tmp_path: Path) -> None:
    path = tmp_path / "classic.txt"
    table = [f"{n + 1} {lab[0]} {lab[1]} {lab[2]}" for n, lab in enumerate(COLORCHECKER24.lab_d50)]
    path.write_text(as_cgats(table, "SAMPLE_ID LAB_L LAB_A LAB_B"))
    chart = read_reference(path)
    assert (chart.rows, chart.columns, chart.neutral) == (4, 6, COLORCHECKER24.neutral)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(as_json(rows=3)), "3 rows x 3 columns"),
        (json.dumps(as_json(rows=1, columns=6)), "one row"),
        (json.dumps(as_json(illuminant="D65")), "illuminant"),
        (json.dumps(as_json(colour="red")), "colour"),
        (json.dumps(as_json(neutral=["white"])), "no patch 'white'"),
        (json.dumps(as_json(patches=[{"name": "p", "lab": [1, 2, 3]}] * 6)), "two patches are called 'p'"),
        (
            json.dumps(as_json(patches=[{"name": f"p{n}", "lab": [120, 2, 3]} for n in range(6)])),
            "'p0' has no possible",
        ),
        (json.dumps(as_json(patches=[{"name": f"p{n}", "lab": [50, n, 3]} for n in range(5)])), "patches"),
        ("{not json", "the file"),
        ("hello\n", "no reference file"),
        (as_cgats([f"{n} 50 0 0" for n in NAMES]).replace("SETS 6", "SETS 24"), "cut off"),
        (as_cgats([f"{n} 50 0 0" for n in NAMES], "SAMPLE_NAME RGB_R RGB_G RGB_B"), "LAB_L"),
        (as_cgats([f"{n} 50 0" for n in NAMES]), "3 values for 4 columns"),
        (as_cgats([f"{n} x 0 0" for n in NAMES]), "not a number"),
        (as_cgats([f"{n} nan 0 0" for n in NAMES]), "no possible Lab"),
        (as_cgats([f"{n} 50 0 0" for n in NAMES], head="ILLUMINANT D65\n"), "D65"),
        (as_cgats([f"{n} 50 0 0" for n in range(7)]), "how its 7 patches lie"),
    ],
)
def test_a_wrong_file_gets_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "target"
    path.write_text(content)
    with pytest.raises(ReferenceUnreadable) as caught:
        read_reference(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(ReferenceUnreadable, match="cannot be read"):
        read_reference(tmp_path / "none.json")
    (tmp_path / "huge.json").write_bytes(b"{" * 1_000_001)
    with pytest.raises(ReferenceUnreadable, match="larger than 1 MB"):
        read_reference(tmp_path / "huge.json")
