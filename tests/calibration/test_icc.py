"""ICC profiles as another program (LittleCMS, in Pillow) reads and applies them."""

from __future__ import annotations

import io
import struct
from datetime import datetime, timezone

import numpy as np
import pytest
from PIL import Image, ImageCms

from calibration.colour import delta_e_2000, srgb_to_lab
from calibration.correction.apply import reference_apply
from calibration.correction.colour_model import ColourModel, Tone
from calibration.correction.icc import export_icc, icc_profile

MATRIX = np.array([[1.42, -0.22, -0.03], [-0.31, 1.38, -0.26], [0.02, -0.28, 1.41]])
MODELS = {
    "matrix": ColourModel("matrix", MATRIX),
    "tone": ColourModel("matrix", MATRIX, Tone(1.1, 0.8, 0.3, 0.02)),
    "root polynomial": ColourModel("root_polynomial_2", np.vstack([MATRIX, np.full((3, 3), -0.03)])),
}


def littlecms(rgb: np.ndarray, profile: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(
        Image.fromarray(rgb), source, ImageCms.createProfile("sRGB"), renderingIntent=intent
    )
    assert converted is not None
    return np.asarray(converted)


@pytest.mark.parametrize("name", MODELS)
def test_another_program_corrects_as_we_do(name):
    rgb = np.random.default_rng(8).integers(20, 256, (64, 64, 3)).astype(np.uint8)
    corrected = littlecms(rgb, icc_profile(MODELS[name], "test"))
    exact = reference_apply(MODELS[name], rgb)
    off = delta_e_2000(srgb_to_lab(corrected), srgb_to_lab(exact))
    assert off.mean() < 0.5
    assert np.percentile(off, 99) < 1.5
    assert delta_e_2000(srgb_to_lab(rgb), srgb_to_lab(exact)).mean() > 3.0


def test_a_matrix_becomes_a_matrix_profile_and_the_rest_a_table():
    assert len(icc_profile(MODELS["matrix"], "x")) < 10_000
    kinds = {name: b"A2B0" in icc_profile(model, "x") for name, model in MODELS.items()}
    assert kinds == {"matrix": False, "tone": True, "root polynomial": True}


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "scope.icc"
    made_at = datetime(2026, 11, 23, 8, 5, 3, tzinfo=timezone.utc)
    export_icc(MODELS["matrix"], path, description="scope-1", made_at=made_at)
    profile = ImageCms.ImageCmsProfile(str(path))
    assert ImageCms.getProfileDescription(profile).strip() == "scope-1"
    assert profile.profile.xcolor_space.strip() == "RGB"
    assert profile.profile.device_class == "scnr"
    assert struct.unpack(">6H", path.read_bytes()[24:36]) == (2026, 11, 23, 8, 5, 3)


@pytest.mark.parametrize("name", MODELS)
def test_the_directory_is_sound(name):
    data = icc_profile(MODELS[name], "x")
    assert struct.unpack(">I", data[:4])[0] == len(data)
    assert data[36:40] == b"acsp"
    (count,) = struct.unpack(">I", data[128:132])
    for number in range(count):
        _, offset, size = struct.unpack(">4sII", data[132 + 12 * number : 144 + 12 * number])
        assert offset % 4 == 0
        assert 132 + 12 * count <= offset
        assert offset + size <= len(data)
