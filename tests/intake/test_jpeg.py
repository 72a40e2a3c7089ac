"""libjpeg-turbo, asked directly, changes nothing: not a pixel, not a refusal, against OpenCV alone."""

from __future__ import annotations

import io
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agent.intake import decode as decoding
from agent.intake.decode import decode
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection

LIMITS = DecodeLimits()
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"subsampling": 1},
    {"quality": 30, "optimize": True},
    {"restart_marker_blocks": 2},
)


def scene(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


def jpeg(rgb: NDArray[np.uint8], mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def outcome(data: bytes) -> tuple[object, object, object]:
    """All that the rest of the agent can see of it."""
    try:
        picture = decode(data, LIMITS)
    except Rejection as rejection:
        return rejection.reason, rejection.sentence, None
    return picture.rgb.tobytes(), picture.rgb.shape, (picture.notes, picture.full_size)


def without_turbo(monkeypatch: pytest.MonkeyPatch, data: bytes) -> tuple[object, object, object]:
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_turbo", lambda *_, **__: None)
        return outcome(data)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(96, 128), (95, 127), (8, 8)])
def test_not_a_pixel_is_another(
    options: dict[str, object], mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(scene(*size), mode, **options)
    header = decoding._jpeg_or_bmp_header(data, LIMITS)
    assert decoding._turbo(data, header, halve=False) is not None, "it was not asked at all"
    assert outcome(data) == without_turbo(monkeypatch, data)


@pytest.mark.parametrize("size", [(3000, 4000), (2999, 3999), (2401, 3601)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_nor_where_it_is_decoded_at_half_its_size(
    size: tuple[int, int], subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(scene(*size), subsampling=subsampling)
    header = decoding._jpeg_or_bmp_header(data, LIMITS)
    assert decoding._turbo(data, header, halve=True) is not None, "it was not asked at all"
    assert outcome(data) == without_turbo(monkeypatch, data)


def test_real_pictures_are_the_same(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted((shared_data / "ham10000").rglob("*.jpg"))[::400]:
        data = path.read_bytes()
        assert outcome(data) == without_turbo(monkeypatch, data), path.name


def damaged(count: int) -> None:
    """Files cut off anywhere, or with bytes changed anywhere or in the head: each must end as it did without it."""
    rng = random.Random(5)
    whole = [jpeg(scene(48, 64), mode, **options) for options in VARIANTS for mode in ("RGB", "L")]
    ends: set[object] = set()
    with pytest.MonkeyPatch.context() as patch:
        for number in range(count):
            data = bytearray(whole[number % len(whole)])
            how = rng.randrange(3)
            if how == 0:
                del data[rng.randrange(1, len(data)) :]
                data += b"\xff\xd9"  # so that it is not merely incomplete
            for _ in range(rng.randrange(1, 6) if how else 0):
                data[rng.randrange(len(data) if how == 1 else min(700, len(data)))] = rng.randrange(256)
            found = outcome(bytes(data))
            ends.add(found[0] if isinstance(found[0], Reason) else "read")
            assert found == without_turbo(patch, bytes(data)), (number, how)
    assert ends >= {"read", Reason.DAMAGED}


@pytest.mark.fault("F05")
def test_what_is_damaged_ends_as_it_did() -> None:
    damaged(400)


@pytest.mark.long
@pytest.mark.fault("F05")
@pytest.mark.timeout(1800)
def test_what_is_damaged_ends_as_it_did_at_length() -> None:
    damaged(30_000)


@pytest.mark.fault("F05")
def test_a_file_that_tells_two_sizes_is_not_unpacked() -> None:
    data = jpeg(scene(96, 128))
    told = decoding._Header(64, 48, 8, plain=True, grey=False)
    assert decoding._turbo(data, told, halve=False) is None
