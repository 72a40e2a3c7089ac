"""Is the picture good enough to be read? Figures, and what they make us warn of or refuse."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.answer.scan import Quality
from agent.answer.shrink import RGB, shrink
from agent.intake.reasons import Reason, Rejection

MIN_SHORT_SIDE: Final = 200
"""Pixels; below it the network would look at enlarged pixels only, and the picture is refused."""
RECOMMENDED_LONG_SIDE: Final = 1024
RECOMMENDED_SHORT_SIDE: Final = 768
SCALE: Final = 224
"""Short side, in pixels, of the copy on which everything is measured: near the network's own input, so that the
sharpness is of what the network sees, whatever the camera, and sensor noise is averaged away."""

# Where the limits come from: measured with this code on real dermoscopic images, 5,984 of HAM10000, 2,150 of ISIC 2017
# and three full-size ISIC captures. "p1" is the first percentile of both sets.
#   brightness       least 0.28, p1 0.41, median 0.60 to 0.62, p99 0.79 to 0.86, most 0.94
#   sharpness        least 5.5, p1 11.8 to 13.6, median 58 to 64; the full-size captures 39 to 53, 6 after a Gaussian
#                    blur of 3 pixels and 3 after 5; the limit warns of 0.3 % of the real images
#   contrast         (standard deviation of luma, 0..255) least 5.0, p1 7.4 to 9.7
#   clipped share    median 0.00, p99 0.09 to 0.21, most 0.39
#   dark ring        median 0.00, p99 0.01 to 0.08, most 0.62; a full circle inside a 4:3 frame is 0.41 by geometry
TOO_DARK: Final = 0.33
TOO_BRIGHT: Final = 0.90
BLURRED: Final = 10.0
CLIPPED: Final = 0.20
RING_TOO_LARGE: Final = 0.60
BLANK_CONTRAST: Final = 2.0
BLANK_DARK: Final = 0.04
BLANK_BRIGHT: Final = 0.985
RING_LEAVES_NOTHING: Final = 0.97

NEARLY_BLACK: Final = 40
"""Luma (0..255) below which a pixel that hangs together with the border counts as the dermoscope's rim."""


def measure(rgb: RGB, camera_size: tuple[int, int] | None = None, halved: RGB | None = None) -> Quality:
    """Measure a picture's quality.

    Luma is BT.601's (0.299 R + 0.587 G + 0.114 B of the gamma-coded values). Brightness, contrast and clipping are
    taken over the visible field, that is without the dark ring, which a dermoscope's rim makes and which is normal.

    Args:
        rgb: ``[H, W, 3]`` uint8, sRGB, upright.
        camera_size: Height and width that the camera wrote, where ``rgb`` was decoded smaller.
        halved: Its preview (`agent.answer.shrink.preview`), where that has been made: it changes nothing but the time.

    Raises:
        Rejection: ``TOO_SMALL`` below 200 pixels on the short side; ``BLANK`` where there is nothing to see (a lens
            cap, a white wall).
    """
    height, width = camera_size or rgb.shape[:2]
    if min(height, width) < MIN_SHORT_SIDE:
        raise Rejection(
            Reason.TOO_SMALL,
            f"The picture is only {width} x {height} pixels; at least {MIN_SHORT_SIDE} on the short side are needed. "
            "Take it again at the camera's full resolution.",
        )
    small = _at_scale(rgb, rgb if halved is None else halved)
    luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    ring = dark_ring(luma)
    ring_share = float(np.count_nonzero(ring)) / ring.size
    field = None if ring_share > RING_LEAVES_NOTHING else (~ring).view(np.uint8)
    mean, deviation = _mean_and_deviation(luma, field)
    brightness = min(1.0, mean / 255.0)
    _refuse_blank(brightness, deviation, ring_share)
    sharpness = _mean_and_deviation(cv2.Laplacian(luma, cv2.CV_16S))[1] ** 2
    clipped = _clipped_share(rgb)
    return Quality(
        width=width,
        height=height,
        brightness=brightness,
        sharpness=sharpness,
        clipped_share=clipped,
        dark_ring_share=ring_share,
        warnings=_warnings((width, height), brightness, sharpness, clipped, ring_share),
    )


def dark_ring(luma: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the nearly black pixels are that hang together with the picture's border; ``[H, W]`` uint8 to bool.

    A dark lesion in the middle is not part of it, however black.
    """
    dark = (luma < NEARLY_BLACK).view(np.uint8)
    if not (dark[0].any() or dark[-1].any() or dark[:, 0].any() or dark[:, -1].any()):
        return np.zeros(luma.shape, dtype=np.bool_)
    count, labels = cv2.connectedComponents(dark, connectivity=4)
    touches = np.zeros(count, dtype=np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touches[edge] = True
    touches[0] = False  # label 0 is everything that is not dark
    return np.asarray(touches[labels], dtype=np.bool_)


def _mean_and_deviation(values: Any, where: NDArray[np.uint8] | None = None) -> tuple[float, float]:
    """Of ``[H, W]`` numbers, the population's; in float64, without a copy of them."""
    mean, deviation = cv2.meanStdDev(values, mask=where)
    return float(np.ravel(mean)[0]), float(np.ravel(deviation)[0])


def _at_scale(rgb: RGB, halved: RGB) -> RGB:
    height, width = rgb.shape[:2]
    short = min(height, width)
    if short <= SCALE:
        return rgb
    height, width = max(1, round(height * SCALE / short)), max(1, round(width * SCALE / short))
    begun = halved.shape[0] >= height and halved.shape[1] >= width  # then its halvings are the first of these
    return shrink(halved if begun else rgb, height, width)


def _clipped_share(rgb: RGB) -> float:
    # Every k-th pixel as the camera wrote it: means of neighbours would hide clipping. Odd, so as not to beat with
    # what repeats every two pixels (colour subsampling, interlacing).
    step = max(1, min(rgb.shape[:2]) // 128) | 1
    red, green, blue = cv2.split(np.ascontiguousarray(rgb[::step, ::step]))
    brightest = cv2.max(cv2.max(red, green), blue)
    seen = brightest >= NEARLY_BLACK
    if not seen.any():
        return 1.0
    clipped = seen & ((brightest == 255) | (cv2.min(cv2.min(red, green), blue) == 0))
    return float(np.count_nonzero(clipped)) / float(np.count_nonzero(seen))


def _refuse_blank(brightness: float, contrast: float, ring_share: float) -> None:
    if brightness < BLANK_DARK or ring_share > RING_LEAVES_NOTHING:
        what = "The picture is black. Take the cap off, switch the dermoscope's light on and take it again."
    elif brightness > BLANK_BRIGHT:
        what = "The picture is white. Turn the dermoscope's light or the exposure down and take it again."
    elif contrast < BLANK_CONTRAST:
        what = "The picture shows one even colour and no skin. Point the dermoscope at the lesion and take it again."
    else:
        return
    raise Rejection(Reason.BLANK, what)


def _warnings(
    size: tuple[int, int], brightness: float, sharpness: float, clipped: float, ring_share: float
) -> tuple[str, ...]:
    width, height = size
    found = []
    if max(width, height) < RECOMMENDED_LONG_SIDE or min(width, height) < RECOMMENDED_SHORT_SIDE:
        found.append(
            f"Low resolution: {width} x {height} pixels, below "
            f"{RECOMMENDED_LONG_SIDE} x {RECOMMENDED_SHORT_SIDE}; fine structures may be lost."
        )
    if brightness < TOO_DARK:
        found.append("The picture is dark; more light may change the answer.")
    if brightness > TOO_BRIGHT:
        found.append("The picture is very bright; less exposure may change the answer.")
    if sharpness < BLURRED:
        found.append("The picture looks blurred; focus and take it again if you can.")
    if clipped > CLIPPED:
        found.append(f"{clipped:.0%} of the visible field is over- or underexposed; its colours are lost there.")
    if ring_share > RING_TOO_LARGE:
        found.append(f"The dark rim covers {ring_share:.0%} of the picture; little of the skin is left to look at.")
    return tuple(found)
