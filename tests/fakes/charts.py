"""Synthetic photographs of colour charts, whole and through a dermoscope, with every cause of error known.

Each function is deterministic for its arguments. The colour arithmetic is written out here rather than imported, so
that a mistake in ``calibration.colour`` cannot cancel itself out in a test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.references import COLORCHECKER24, ReferenceChart

FloatArray = NDArray[np.float64]
Picture = NDArray[np.uint8]

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
DULL = ((0.78, 0.18, 0.04), (0.10, 0.80, 0.10), (0.03, 0.20, 0.77))
"""A camera with crosstalk between its channels: pale colours, as an uncorrected sensor gives."""
WARM = (1.25, 0.95, 0.60)
"""Gains of a warm lamp with the white balance left alone."""
FRAME_REFLECTANCE = 0.012
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.96422, 1.0, 0.82521])
_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_SRGB = np.linalg.inv(
    np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
)


def encode(linear: FloatArray) -> FloatArray:
    """The sRGB curve (IEC 61966-2-1), 0..1 to 0..1."""
    clipped = np.clip(linear, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)


_ENCODED = encode(np.linspace(0.0, 1.0, 65536)).astype(np.float32) * 255


@dataclass(frozen=True)
class Camera:
    """What stands between the chart and the file; all of it acts in linear light."""

    matrix: tuple[tuple[float, ...], ...] = IDENTITY
    """3x3, linear sRGB of the scene to the camera's linear RGB."""
    illuminant: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gain of each channel: the lamp's colour, seen without white balance."""
    exposure: float = 0.9
    noise: float = 1.0
    """Standard deviation of a pixel, in 8-bit levels."""
    blur: float = 0.0
    """Sigma in pixels of the picture."""
    vignette: float = 0.0
    """Share of the light lost at the corner of the picture; it falls with the square of the radius."""
    glare: float = 0.0
    """Light added everywhere, as a share of white."""


@dataclass(frozen=True)
class ChartShot:
    """A rendered photograph and the truth about it."""

    rgb: Picture
    """uint8 [H,W,3], RGB."""
    centres: FloatArray
    """float64 [N,2]: x, y of each patch's centre in pixels, in the reference's order; may lie outside the picture."""
    corners: FloatArray
    """float64 [4,2]: outer corners of the patch area: chart's top left, top right, bottom right, bottom left."""
    linear: FloatArray
    """float64 [N,3]: what the camera would record for each patch without noise, vignette, blur or quantising."""
    names: tuple[str, ...]


def lab_to_linear_srgb(lab_d50: FloatArray) -> FloatArray:
    """Lab (D50) [N,3] to linear sRGB (D65, Bradford) [N,3]; below 0 where sRGB cannot show the colour (cyan)."""
    f = np.empty_like(lab_d50)
    f[:, 1] = (lab_d50[:, 0] + 16) / 116
    f[:, 0] = f[:, 1] + lab_d50[:, 1] / 500
    f[:, 2] = f[:, 1] - lab_d50[:, 2] / 200
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D65) / (_BRADFORD @ _D50)) @ _BRADFORD
    return np.asarray(xyz @ (_XYZ_TO_SRGB @ adaptation).T, dtype=np.float64)


def render_chart(
    reference: ReferenceChart = COLORCHECKER24,
    *,
    camera: Camera = Camera(),
    size: tuple[int, int] = (720, 1080),
    fill: float = 0.7,
    gap: float = 0.18,
    rotation: float = 0.0,
    tilt: float = 0.0,
    mirrored: bool = False,
    shift: tuple[float, float] = (0.0, 0.0),
    background: float = 0.35,
    covered: tuple[str, ...] = (),
    seed: int = 0,
) -> ChartShot:
    """A chart lying in the picture.

    Args:
        reference: which chart.
        camera: colour and optics.
        size: rows, columns of the picture.
        fill: the chart's larger share of the picture's width or height.
        gap: black between two patches as a share of the pitch (classic about 0.15, Nano about 0.3).
        rotation: degrees, clockwise as seen.
        tilt: perspective, 0 (none) to about 0.3.
        mirrored: left and right exchanged.
        shift: of the chart's centre, in shares of the picture's width and height.
        background: reflectance of the table around the chart.
        covered: names of patches under something green.
        seed: of the noise.
    """
    rows, columns = reference.rows, reference.columns
    texture, pitch, margin = _texture(reference, gap, background, covered)
    height, width = size
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    half = np.array([columns, rows]) / 2.0
    box = np.abs(turn) @ half  # half the extent of the turned chart, in pitches
    scale = fill * min(width / (2 * box[0]), height / (2 * box[1]))
    centre = np.array([width * (0.5 + shift[0]), height * (0.5 + shift[1])])

    def place(points: FloatArray) -> FloatArray:
        """Chart coordinates (in pitches from its top left) to pixels."""
        local = points - half
        if mirrored:
            local = local * [-1.0, 1.0]
        turned = local @ turn.T * scale
        depth = 1.0 + tilt * turned[:, 1:] / height
        return np.asarray(turned / depth + centre, dtype=np.float64)

    frame = np.array([[0.0, 0.0], [columns, 0.0], [columns, rows], [0.0, rows]])
    homography = cv2.getPerspectiveTransform(
        (frame * pitch + margin).astype(np.float32), place(frame).astype(np.float32)
    )
    return _expose(reference, texture, homography, place, camera, size, gap, seed)


def through_dermoscope(
    reference: ReferenceChart = COLORCHECKER24,
    *,
    camera: Camera = Camera(vignette=0.35, blur=1.0),
    size: tuple[int, int] = (768, 1024),
    field_patches: float = 3.6,
    centre: tuple[float, float] = (1.5, 1.5),
    gap: float = 0.3,
    rotation: float = 0.0,
    round_field: bool = True,
    barrel: float = 0.0,
    seed: int = 0,
) -> ChartShot:
    """One tile of a small chart under a dermoscope's 10-20 mm field.

    Args:
        reference: which chart.
        camera: colour and optics.
        size: rows, columns of the picture.
        field_patches: diameter of the round field (or width of the square one), in patch pitches.
        centre: column, row of the chart under the middle of the field, in pitches from the chart's top left corner.
        gap: black between two patches as a share of the pitch.
        rotation: degrees, clockwise as seen.
        round_field: black outside a circle, as most dermoscopes give.
        barrel: lens distortion, first radial coefficient at the edge of the field.
        seed: of the noise.
    """
    texture, pitch, margin = _texture(reference, gap, 0.35, ())
    height, width = size
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = (min(size) if round_field else width) / field_patches
    middle = np.array([width / 2.0, height / 2.0])

    def place(points: FloatArray) -> FloatArray:
        flat = (points - np.array(centre)) @ turn.T * scale
        if barrel:
            radius = np.hypot(flat[:, 0], flat[:, 1]) / (min(size) / 2)
            flat = flat * (1 - barrel * radius**2)[:, None]
        return np.asarray(flat + middle, dtype=np.float64)

    pixels = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack(pixels, axis=-1).reshape(-1, 2) - middle.astype(np.float32)
    if barrel:  # the inverse of place(), by fixed-point steps
        flat = grid.copy()
        for _ in range(12):
            radius = np.hypot(flat[:, 0], flat[:, 1]) / (min(size) / 2)
            flat = grid / np.maximum(1 - barrel * radius**2, 0.2)[:, None]
        grid = flat
    source = (grid @ (turn * pitch / scale).astype(np.float32)) + (np.array(centre, np.float32) * pitch + margin)
    field_mask = None
    if round_field:
        distance = np.hypot(pixels[0] - middle[0], pixels[1] - middle[1])
        field_mask = np.clip((min(size) / 2 - 4 - distance) / 3, 0.0, 1.0)
    maps = source.reshape(height, width, 2).astype(np.float32)
    return _expose(reference, texture, maps, place, camera, size, gap, seed, field_mask)


def dermoscope_tiles(
    reference: ReferenceChart = COLORCHECKER24,
    *,
    camera: Camera = Camera(vignette=0.2, blur=1.0),
    step: float = 2.0,
    **options: object,
) -> list[ChartShot]:
    """Overlapping tiles that cover the whole chart, in rows from the top left; options as in through_dermoscope."""
    options.setdefault("field_patches", 4.2)
    columns = np.linspace(1.5, reference.columns - 1.5, int(np.ceil((reference.columns - 3) / step)) + 1)
    rows = np.linspace(1.5, reference.rows - 1.5, int(np.ceil((reference.rows - 3) / step)) + 1)
    return [
        through_dermoscope(reference, camera=camera, centre=(float(x), float(y)), seed=number, **options)  # type: ignore[arg-type]
        for number, (y, x) in enumerate((y, x) for y in rows for x in columns)
    ]


def white_frame(
    *,
    camera: Camera = Camera(vignette=0.35),
    size: tuple[int, int] = (768, 1024),
    reflectance: float = 0.8,
    seed: int = 0,
) -> Picture:
    """A photograph of a white tile, for the flat field: uint8 [H,W,3] RGB."""
    linear = np.full((*size, 3), reflectance) @ np.array(camera.matrix).T
    return _record(linear, camera, seed)


def shots_at(exposures: tuple[float, ...], camera: Camera = Camera()) -> list[ChartShot]:
    """The same chart at several exposures."""
    return [render_chart(camera=replace(camera, exposure=exposure), seed=n) for n, exposure in enumerate(exposures)]


def _texture(
    reference: ReferenceChart, gap: float, background: float, covered: tuple[str, ...]
) -> tuple[NDArray[np.float32], int, int]:
    """The chart seen from above in linear sRGB, its pitch and the table's width around it (pixels)."""
    pitch, margin = 96, 64
    rim = pitch // 3
    rows, columns = reference.rows, reference.columns
    canvas = np.full((rows * pitch + 2 * margin, columns * pitch + 2 * margin, 3), background, dtype=np.float32)
    canvas[margin - rim : rows * pitch + margin + rim, margin - rim : columns * pitch + margin + rim] = (
        FRAME_REFLECTANCE
    )
    side = round(pitch * gap / 2)
    for index, colour in enumerate(lab_to_linear_srgb(reference.lab_d50)):
        top, left = (margin + place * pitch + side for place in divmod(index, columns))
        patch = (0.05, 0.16, 0.03) if reference.patch_names[index] in covered else colour
        canvas[top : top + pitch - 2 * side, left : left + pitch - 2 * side] = patch
    return canvas, pitch, margin


def _expose(  # noqa: PLR0917
    reference: ReferenceChart,
    texture: NDArray[np.float32],
    mapping: NDArray[np.float64] | NDArray[np.float32],
    place: object,
    camera: Camera,
    size: tuple[int, int],
    gap: float,
    seed: int,
    field_mask: NDArray[np.floating] | None = None,
) -> ChartShot:
    height, width = size
    if mapping.shape == (3, 3):
        # Twice the resolution, then the mean of four pixels: edges as a sensor integrates them.
        double = np.diag([2.0, 2.0, 1.0]) @ mapping
        linear = cv2.warpPerspective(
            texture, double, (2 * width, 2 * height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        linear = cv2.resize(linear, (width, height), interpolation=cv2.INTER_AREA)
    else:
        linear = cv2.remap(texture, mapping, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    matrix = np.array(camera.matrix)
    rows, columns = reference.rows, reference.columns
    centres = np.array([[column + 0.5, row + 0.5] for row in range(rows) for column in range(columns)])
    side = gap / 2
    corners = np.array([[side, side], [columns - side, side], [columns - side, rows - side], [side, rows - side]])
    truth = (
        (lab_to_linear_srgb(reference.lab_d50) @ matrix.T + camera.glare)
        * np.array(camera.illuminant)
        * camera.exposure
    )
    rgb = _record(linear @ matrix.T.astype(np.float32), camera, seed, field_mask)
    assert callable(place)
    return ChartShot(rgb, place(centres), place(corners), truth, reference.patch_names)


def _record(
    linear: NDArray[np.floating], camera: Camera, seed: int, field_mask: NDArray[np.floating] | None = None
) -> Picture:
    """Light to file: lamp, exposure, vignette, blur, sensor noise, the sRGB curve, eight bits."""
    height, width = linear.shape[:2]
    light = (linear.astype(np.float32) + np.float32(camera.glare)) * np.array(camera.illuminant, np.float32)
    light *= np.float32(camera.exposure)
    if camera.vignette:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        radius = np.hypot(x - width / 2, y - height / 2) / np.hypot(width / 2, height / 2)
        light *= (1 - np.float32(camera.vignette) * radius**2)[..., None]
    if camera.blur:
        light = cv2.GaussianBlur(light, (0, 0), camera.blur)
    if field_mask is not None:
        light = light * field_mask[..., None].astype(np.float32)
    encoded = _ENCODED[(np.clip(light, 0.0, 1.0) * 65535 + 0.5).astype(np.uint16)]
    if camera.noise:
        encoded += np.random.default_rng(seed).standard_normal(encoded.shape, np.float32) * np.float32(camera.noise)
    return np.clip(np.rint(encoded), 0, 255).astype(np.uint8)
