"""Decoding: every kind of picture upright and in sRGB, everything else refused in a sentence for a nurse."""

from __future__ import annotations

import threading
import warnings
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from agent.intake.decode import decode, ends_early
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import SENTENCES, Reason, Rejection
from tests.fakes.mutations import generated_sources, png, tiff_rgb16

LIMITS = DecodeLimits()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """Smooth, and different in each corner."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack((across, down, 255 - across), axis=2).astype(np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)


def close(picture: Picture, expected: NDArray[np.uint8], tolerance: float) -> bool:
    assert picture.rgb.shape == expected.shape
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    return float(np.abs(picture.rgb.astype(int) - expected.astype(int)).mean()) <= tolerance


def refused(data: bytes, limits: DecodeLimits = LIMITS) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_each_format_gives_its_pixels_whatever_its_name(form: str) -> None:
    picture = decode(saved(scene(), form), LIMITS, "wrong.xyz")
    assert close(picture, pixels(scene()), 0 if form != "JPEG" else 5)
    assert picture.format == form
    assert picture.notes == ()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.fault("F05")
def test_each_orientation_is_turned_upright(form: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene().transpose(undo[orientation]) if orientation in undo else scene()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(saved(stored, form, exif=exif), LIMITS)
    assert close(picture, pixels(scene()), 5 if form == "JPEG" else 0)
    assert any("upright" in note for note in picture.notes) == (orientation != 1)


@pytest.mark.fault("F05")
def test_sixteen_bits_become_eight() -> None:
    deep = pixels(scene()).astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    import zlib

    for data in (png(64, 48, 16, 2, (b"IDAT", zlib.compress(rows))), tiff_rgb16(deep)):
        picture = decode(data, LIMITS)
        assert close(picture, pixels(scene()), 0.5)
        assert any("16 bits" in note for note in picture.notes)
    for form in ("PNG", "TIFF"):
        grey = decode(saved(Image.fromarray(deep[..., 0]), form), LIMITS)
        assert close(grey, np.repeat(pixels(scene())[..., :1], 3, axis=2), 0.5)
        assert any("16 bits" in note for note in grey.notes)


@pytest.mark.fault("F05")
def test_printing_colours_become_screen_colours() -> None:
    for form in ("JPEG", "TIFF"):
        picture = decode(saved(scene().convert("CMYK"), form), LIMITS)
        assert close(picture, pixels(scene()), 6)
        assert any("CMYK" in note for note in picture.notes)


@pytest.mark.fault("F05")
def test_transparency_is_laid_on_white() -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    picture = decode(saved(image, "PNG"), LIMITS)
    assert (picture.rgb == 255).all()
    assert any("white" in note for note in picture.notes)
    grey = scene().convert("LA")
    assert decode(saved(grey, "PNG"), LIMITS).rgb.shape == (48, 64, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours_are_told_of(mode: str) -> None:
    image = scene().convert(mode)
    picture = decode(saved(image, "PNG"), LIMITS)
    assert close(picture, pixels(image.convert("RGB")), 0)
    assert len(picture.notes) == 1


def test_lab_colours() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(scene(), srgb, lab, outputMode="LAB")
    assert image is not None
    picture = decode(saved(image, "TIFF"), LIMITS)
    assert close(picture, pixels(scene()), 6)


def swapped_profile() -> bytes:
    """sRGB with its red and blue exchanged: a conversion that is seen."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        name = bytes(profile[at : at + 4])
        profile[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile.replace(b"s\0R\0G\0B", b"t\0e\0s\0t").replace(b"sRGB", b"test"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_a_colour_profile_is_converted_to_srgb(form: str) -> None:
    picture = decode(saved(scene(), form, icc_profile=swapped_profile()), LIMITS)
    assert any("profile" in note and "converted" in note for note in picture.notes)
    assert close(picture, pixels(scene())[..., ::-1], 8)


def test_srgb_itself_is_left_alone_and_a_broken_profile_is_told_of() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(saved(scene(), "PNG", icc_profile=srgb), LIMITS).notes == ()
    broken = decode(saved(scene(), "PNG", icc_profile=b"x" * 500), LIMITS)
    assert close(broken, pixels(scene()), 0)
    assert any("cannot be used" in note for note in broken.notes)


def test_the_cameras_own_time() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    assert decode(saved(scene(), "JPEG", exif=exif), LIMITS).captured_at == datetime(2024, 5, 6, 7, 8, 9)  # noqa: DTZ001
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    moment = decode(saved(scene(), "PNG", exif=exif), LIMITS).captured_at
    assert moment == datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    assert decode(saved(scene(), "TIFF", exif=exif), LIMITS).captured_at is None
    assert decode(saved(scene(), "JPEG"), LIMITS).captured_at is None


@pytest.mark.fault("F05")
def test_what_is_refused_and_why() -> None:
    jpeg = saved(scene(), "JPEG")
    assert refused(b"").sentence == "The file is empty. Take the picture again."
    assert refused(jpeg[:-10]).reason is Reason.TRUNCATED
    assert refused(b"hello, I am a text").reason is Reason.NOT_A_PICTURE
    assert refused(jpeg, DecodeLimits(max_bytes=100)).reason is Reason.TOO_MANY_BYTES
    too_large = refused(jpeg, DecodeLimits(max_pixels=1000))
    assert too_large.reason is Reason.TOO_MANY_PIXELS
    assert "64 x 48" in too_large.sentence
    gif = refused(saved(scene(), "GIF"))
    assert gif.reason is Reason.UNSUPPORTED
    assert "GIF" in gif.sentence
    assert "JPEG" in gif.sentence
    assert refused(saved(scene(), "WEBP")).reason is Reason.UNSUPPORTED
    assert refused(b"\0\0\0\x18ftypheic" + bytes(100)).reason is Reason.UNSUPPORTED
    assert refused(saved(Image.fromarray(np.zeros((9, 9), np.float32)), "TIFF")).reason is Reason.UNSUPPORTED


@pytest.mark.fault("F05")
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_several_pictures_are_refused(form: str) -> None:
    data = saved(scene(), form, save_all=True, append_images=[scene().rotate(90), scene().rotate(180)])
    rejection = refused(data)
    assert rejection.reason is Reason.SEVERAL_PICTURES
    assert "3 pictures" in rejection.sentence


@pytest.mark.fault("F05")
def test_bombs_are_refused_before_they_are_unpacked() -> None:
    import zlib

    assert refused(png(50_000, 50_000, 8, 2, (b"IDAT", zlib.compress(b"")))).reason is Reason.TOO_MANY_PIXELS
    jpeg = bytearray(saved(scene(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    assert refused(bytes(jpeg)).reason is Reason.TOO_MANY_PIXELS
    text = b"Comment\0\0" + zlib.compress(bytes(20_000_000))
    rows = zlib.compress(b"".join(b"\0" + bytes(30) for _ in range(10)))
    assert refused(png(10, 10, 8, 2, (b"zTXt", text), (b"IDAT", rows))).reason is Reason.DAMAGED


@pytest.mark.fault("F05")
def test_a_wrong_checksum_is_damage() -> None:
    data = bytearray(saved(scene(), "PNG"))
    data[len(data) // 2] ^= 1
    assert refused(bytes(data)).reason is Reason.DAMAGED


@pytest.mark.fault("F05")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_whose_data_end_early_is_damaged_even_with_an_end_marker(options: dict[str, object]) -> None:
    data = saved(Image.open(BytesIO(generated_sources(1)[0])), "JPEG", quality=95, **options)
    start = data.index(b"\xff\xda")
    cut = data[: start + (len(data) - start) // (20 if options.get("progressive") else 2)] + b"\xff\xd9"
    rejection = refused(cut)
    assert rejection.reason is Reason.DAMAGED
    assert "part of the picture is missing" in rejection.sentence


def test_a_grey_frame_is_no_damage() -> None:
    framed = Image.new("RGB", (96, 96), (128, 128, 128))
    framed.paste(scene(), (16, 16))
    assert decode(saved(framed, "JPEG", quality=95), LIMITS).rgb.shape == (96, 96, 3)


def test_real_pictures_are_never_taken_for_damaged(shared_data: Path) -> None:
    paths = sorted((shared_data / "ham10000" / "images").iterdir())[::30][:200]
    paths += sorted((shared_data / "isic2017" / "val").iterdir())[:100]
    paths += sorted((shared_data / "isic_fullsize").iterdir())
    for path in paths:
        picture = decode(path.read_bytes(), LIMITS, path.name)
        assert not ends_early(picture.rgb), path.name
        assert picture.notes == (), path.name


def test_threads_decode_side_by_side_without_a_warning() -> None:
    sources = [saved(scene(), form) for form in ("JPEG", "PNG", "TIFF")] * 10
    shapes: list[tuple[int, ...]] = []
    with warnings.catch_warnings(record=True) as caught:
        threads = [
            threading.Thread(target=lambda data=data: shapes.append(decode(data, LIMITS).rgb.shape)) for data in sources
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert shapes == [(48, 64, 3)] * 30
    assert not caught


def test_sentences_are_for_people() -> None:
    for reason, sentence in SENTENCES.items():
        assert sentence.endswith("."), reason
        assert reason.name not in sentence


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_half_its_size_and_still_the_same_picture(orientation: int) -> None:
    small = np.random.default_rng(0).integers(30, 220, (30, 40, 3), np.uint8)
    rgb = cv2.resize(small, (3401, 2601), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=95, exif=exif)
    picture = decode(file.getvalue(), DecodeLimits())
    upright = np.rot90(rgb, -1) if orientation == 6 else rgb
    assert picture.camera_size == upright.shape[:2]
    assert picture.rgb.shape[:2] == tuple(-(-side // 2) for side in upright.shape[:2])
    expected = cv2.resize(upright, picture.rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(expected.astype(int) - picture.rgb).mean() < 1.5
