"""From a picture of any size to the network's input, exactly as the bundle's manifest says."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.backend import Images
from engines.manifest import InputContract


def centre_square(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the largest centred square of a ``height`` x ``width`` picture (in pixels).

    Where the margin is odd, the smaller half lies above and to the left.
    """
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def crop_and_resize(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The centred square of ``rgb`` at ``size`` x ``size``: ``[H, W, 3]`` uint8 to ``[size, size, 3]`` uint8.

    Shrinking averages areas (``cv2.INTER_AREA``), as no other filter of OpenCV keeps hair and pigment network from
    aliasing; that filter is undefined for enlarging, which is bilinear.
    """
    square = rgb[centre_square(rgb.shape[0], rgb.shape[1])]  # a view: nothing is copied
    side = square.shape[0]
    if side == size:
        return square
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=how).astype(np.uint8, copy=False)


def preprocess(rgb: NDArray[np.uint8], contract: InputContract) -> Images:
    """Turn a picture into the network's input.

    Args:
        rgb: ``[H, W, 3]`` uint8, sRGB, upright; both sides at least 1 pixel.
        contract: the bundle's ``manifest.input``.

    Returns:
        ``[1, 3, S, S]`` float32, C-contiguous: ``(value / 255 - mean) / std`` per channel.

    Raises:
        ValueError: the array is not an 8-bit RGB picture.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a picture is uint8 [H, W, 3] with H and W at least 1, not {rgb.dtype} {list(rgb.shape)}")
    small = crop_and_resize(rgb, contract.size)
    scale = np.array([1.0 / (255.0 * std) for std in contract.std], dtype=np.float32)
    shift = np.array([-mean / std for mean, std in zip(contract.mean, contract.std, strict=True)], dtype=np.float32)
    images: Images = np.empty((1, 3, contract.size, contract.size), dtype=np.float32)
    np.multiply(small.transpose(2, 0, 1), scale[:, None, None], out=images[0])
    images += shift[:, None, None]
    return images
