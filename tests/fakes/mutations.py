"""Makes the fuzz corpus: files broken, odd or hostile in every way a dermoscope's folder may come to hold (F05)."""

from __future__ import annotations

import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Mutation:
    """One file of the corpus. ``name`` is unique in its corpus and not always UTF-8."""

    name: bytes
    kind: str
    data: bytes


def mutations(count: int, seed: int, sources: Sequence[bytes]) -> Iterator[Mutation]:
    """``count`` files made from ``sources`` (bytes of good pictures); the same for the same arguments."""
    for index in range(count):
        chance = random.Random(seed * 1_000_003 + index)
        kind = ORDER[index % len(ORDER)]
        extension, data = MAKERS[kind](chance.choice(sources), chance)
        stem = f"{index:05d} {kind}".encode()
        if kind == "odd name":
            stem += chance.choice(ODD_NAMES)
        yield Mutation(stem.replace(b" ", b"_", 1) + extension.encode(), kind, data)


def generated_sources(count: int = 3, size: tuple[int, int] = (320, 240)) -> list[bytes]:
    """Good JPEGs to make mutations from where no real images are at hand."""
    sources = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        sources.append(_save(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), "JPEG", quality=90))
    return sources


NOT_FILES = (
    "folder",
    "pipe",
    "socket",
    "link outside",
    "link to itself",
    "link to nothing",
    "link inside",
    "device link",
)
"""Kinds of folder entries that are no files; see :func:`place_not_file`."""


def place_not_file(kind: str, path: Path, outside: Path) -> None:
    """Make an entry of one of ``NOT_FILES`` at ``path``; ``outside`` is a file in another folder."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.open(path.parent, os.O_RDONLY)
            try:  # the path of a socket may have 107 bytes only
                server.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)
    else:
        target = {
            "link outside": outside,
            "link to itself": path,
            "link to nothing": path.with_name("nothing.jpg"),
            "link inside": path.with_name("good.jpg"),
            "device link": Path("/dev/zero"),
        }[kind]
        path.symlink_to(target)


def _save(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _open(source: bytes) -> Image.Image:
    return Image.open(BytesIO(source)).convert("RGB")


def _cut(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", source[: chance.randrange(1, len(source))]


def _flipped(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    data = bytearray(source)
    for _ in range(chance.choice((1, 1, 3, 20, 200))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return ".jpg", bytes(data)


def _flipped_head(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    data = bytearray(source)
    for _ in range(chance.choice((1, 2, 8))):
        data[chance.randrange(min(700, len(data)))] = chance.randrange(256)
    return ".jpg", bytes(data)


def _deleted(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    start = chance.randrange(len(source))
    return ".jpg", source[:start] + source[start + chance.choice((1, 7, 512, 4096)) :]


def _zeroed(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    start, length = chance.randrange(len(source)), chance.choice((16, 512, 4096))
    return ".jpg", (source[:start] + bytes(length) + source[start + length :])[: len(source)]


def _doubled(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", source[: chance.randrange(len(source))] + source


def _junk_behind(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", source + chance.randbytes(chance.choice((1, 1000)))


def _wrong_extension(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    form = chance.choice(("JPEG", "PNG", "BMP", "TIFF"))
    return chance.choice((".png", ".tif", ".dcm", ".txt", ".exe", "", ".JPG")), _save(_open(source), form)


def _other_format(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    form = chance.choice(("PNG", "BMP", "TIFF", "GIF", "WEBP"))
    return f".{form.lower()}", _save(_open(source), form)


def _broken_other_format(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    form = chance.choice(("PNG", "BMP", "TIFF"))
    options = {"compression": chance.choice(("raw", "tiff_lzw", "tiff_deflate", "jpeg"))} if form == "TIFF" else {}
    data = _save(_open(source).resize((96, 64)), form, **options)
    breaking = chance.choice((_cut, _flipped, _flipped_head, _deleted, _zeroed))
    return f".{form.lower()}", breaking(data, chance)[1]


def _rechecked_png(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A PNG whose compressed pixels are wrong or short, under right checksums."""
    image = _open(source).resize((64, 48))
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(image))
    packed = bytearray(zlib.compress(rows))
    if chance.random() < 0.5:
        packed = packed[: chance.randrange(1, len(packed))]
    else:
        packed[chance.randrange(len(packed))] ^= 0xFF
    return ".png", png(64, 48, 8, 2, (b"IDAT", bytes(packed)))


def _bomb_header(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    size = chance.choice((50_000, 2**31 - 1, 6000))
    return ".png", png(size, size, 8, 2, (b"IDAT", zlib.compress(bytes(1000))))


@lru_cache(maxsize=1)
def _flat() -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(12_001 * 10)) for _ in range(1200)]
    return b"".join((*parts, packer.flush()))


def _bomb_pixels(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".png", png(12_000, 12_000, 8, 0, (b"IDAT", _flat()))


def _bomb_behind_small_header(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".png", png(200, 200, 8, 0, (b"IDAT", _flat()))


def _bomb_text(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    text = b"Comment\0\0" + zlib.compress(bytes(20_000_000))
    kind = chance.choice((b"zTXt", b"iCCP"))
    pixels = zlib.compress(b"".join(b"\0" + bytes(300) for _ in range(100)))
    return ".png", png(100, 100, 8, 2, (kind, text), (b"IDAT", pixels))


def _bomb_jpeg(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    data = bytearray(_save(_open(source), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    return ".jpg", bytes(data)


def _bomb_tiff(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    data = bytearray(_save(_open(source).resize((32, 32)), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    if chance.random() < 0.3:
        data[start + 2 + 12 * count :][:4] = struct.pack("<I", start)  # pages without end
        data[start + 2 + 12 * count : start + 6 + 12 * count] = struct.pack("<I", start)
        return ".tif", bytes(data)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] in {256, 257}:
            struct.pack_into("<HHII", data, entry, struct.unpack_from("<H", data, entry)[0], 4, 1, 60_000)
    return ".tif", bytes(data)


def _sixteen_bit_png(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    deep = np.asarray(_open(source).resize((80, 60))).astype(">u2") * 257
    colour = chance.random() < 0.5
    rows = deep if colour else deep[..., :1]
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return ".png", png(80, 60, 16, 2 if colour else 0, (b"IDAT", packed))


def _sixteen_bit_tiff(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    deep = np.asarray(_open(source).resize((80, 60))).astype("<u2") * 257
    if chance.random() < 0.5:
        return ".tif", _save(Image.fromarray(deep[..., 0]), "TIFF")
    return ".tif", tiff_rgb16(deep)


def _cmyk(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", _save(_open(source).convert("CMYK"), chance.choice(("JPEG", "TIFF")))


def _alpha(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    image = _open(source)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return ".png", _save(image if chance.random() < 0.7 else image.convert("LA"), chance.choice(("PNG", "TIFF")))


def _few_colours(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    mode = chance.choice(("P", "1", "L", "YCbCr", "LAB"))
    image = _open(source)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
        assert converted is not None
        return ".tif", _save(converted, "TIFF")
    return ".tif", _save(image.convert(mode), "TIFF" if mode == "YCbCr" else chance.choice(("PNG", "TIFF")))


def _animated(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    image = _open(source).resize((96, 64))
    form = chance.choice(("PNG", "GIF", "TIFF"))
    return f".{form.lower()}", _save(image, form, save_all=True, append_images=[image.rotate(90), image.rotate(180)])


def _turned(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255))
    return ".jpg", _save(_open(source), chance.choice(("JPEG", "PNG", "TIFF")), exif=exif)


def _odd_exif(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", _save(_open(source), "JPEG", exif=b"Exif\0\0MM\0*" + chance.randbytes(400))


def _odd_profile(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".png", _save(_open(source), chance.choice(("PNG", "JPEG")), icc_profile=chance.randbytes(3000))


def _texts(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    info = PngImagePlugin.PngInfo()
    for _ in range(50):
        info.add_text("Comment", "x" * 1000, zip=True)
    return ".png", _save(_open(source).resize((64, 64)), "PNG", pnginfo=info)


def _empty(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", b""


def _no_picture(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    heads = (
        b"",
        b"\xff\xd8\xff",
        PNG_SIGNATURE,
        b"BM",
        b"II*\0",
        b"MM\0*",
        bytes(128) + b"DICM",
        b"%PDF-1.7\n",
        b"GIF89a",
    )
    return chance.choice((".jpg", ".dcm", ".doc")), chance.choice(heads) + chance.randbytes(
        chance.choice((1, 64, 5000))
    )


def _zeros(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", bytes(len(source))


def _dicom(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    pixels = np.asarray(_open(source).resize((64, 48)))
    data = dicom(pixels)
    breaking = chance.choice((None, _cut, _flipped, _flipped_head, _deleted))
    return ".dcm", breaking(data, chance)[1] if breaking else data


def _as_it_is(source: bytes, chance: random.Random) -> tuple[str, bytes]:
    return ".jpg", source


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of the given header and chunks, its checksums right."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (head, *chunks, (b"IEND", b""))
    ]
    return PNG_SIGNATURE + b"".join(parts)


def tiff_rgb16(pixels: np.ndarray) -> bytes:
    """A TIFF of ``[H, W, 3]`` little-endian 16-bit RGB, which Pillow itself cannot write."""
    height, width, _ = pixels.shape
    body = pixels.astype("<u2").tobytes()
    bits_at = 8 + len(body)
    tags = (
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(body)),
    )  # fmt: skip
    entries = [struct.pack("<HHII", *tag) for tag in tags]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", bits_at + 6) + body + struct.pack("<HHH", 16, 16, 16) + directory


def dicom(pixels: np.ndarray, **elements: object) -> bytes:
    """A DICOM photograph of ``[H, W, 3]`` uint8 RGB or ``[H, W]`` grey; ``elements`` by keyword are set on top."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.4")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    meta.TransferSyntaxUID = UID(str(elements.pop("transfer_syntax", ExplicitVRLittleEndian)))
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "XC"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    if meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


ODD_NAMES = (
    b"\xff\xfe",
    b"\n",
    b" '\"; rm -rf",
    "\N{HAIR SPACE}läsion ü".encode(),
    b"x" * 200,
    b"\x1b[31m",
    b"%s%n",
    b"$(id)",
)

MAKERS: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {
    "as it is": _as_it_is,
    "cut": _cut,
    "flipped": _flipped,
    "flipped head": _flipped_head,
    "bytes deleted": _deleted,
    "zeroed": _zeroed,
    "doubled": _doubled,
    "junk behind": _junk_behind,
    "wrong extension": _wrong_extension,
    "other format": _other_format,
    "broken other format": _broken_other_format,
    "rechecked png": _rechecked_png,
    "bomb header": _bomb_header,
    "bomb pixels": _bomb_pixels,
    "bomb behind small header": _bomb_behind_small_header,
    "bomb text": _bomb_text,
    "bomb jpeg": _bomb_jpeg,
    "bomb tiff": _bomb_tiff,
    "16-bit png": _sixteen_bit_png,
    "16-bit tiff": _sixteen_bit_tiff,
    "cmyk": _cmyk,
    "alpha": _alpha,
    "few colours": _few_colours,
    "animated": _animated,
    "turned": _turned,
    "odd exif": _odd_exif,
    "odd profile": _odd_profile,
    "texts": _texts,
    "empty": _empty,
    "no picture": _no_picture,
    "zeros": _zeros,
    "dicom": _dicom,
    "odd name": _as_it_is,
}
_OFTEN = ("cut", "flipped", "flipped head", "bytes deleted", "zeroed", "broken other format", "dicom", "turned")
ORDER = (*MAKERS, *_OFTEN)
"""Kinds in the order in which they come, round and round; the broken ones twice in each round."""
