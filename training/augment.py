"""From a squashed square copy to what the network sees: random views for training, fixed views for measuring.

A copy of side S shows a scene of width 4/3 and height 1 (see ``training.data.ASPECT``). Each view is one affine map
from the network's input to the copy, so an image is resampled once, whatever is done to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import ASPECT

IMAGENET_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class View(str, Enum):
    """A fixed way to look at a copy."""

    CENTRE_CROP = "centre_crop"
    """The square in the middle, proportions restored: what a device sees of a 4:3 capture."""
    SQUASHED = "squashed"
    """The whole copy as it lies on disk: what a device sees when it is handed the copy itself."""


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the random views; ranges are (low, high)."""

    crop: tuple[float, float] = (0.6, 1.05)
    """Side of the crop in scene heights."""
    squash_chance: float = 0.5
    """How often the proportions are left (partly) squashed."""
    brightness: float = 0.08
    contrast: float = 0.15
    saturation: float = 0.15
    hue_degrees: float = 4.0
    erase_chance: float = 0.25
    erase_area: tuple[float, float] = (0.02, 0.2)


def _colour_matrix(rng: np.random.Generator, config: AugmentConfig) -> NDArray[np.float32]:
    """A random 3x4 map of RGB in 0..1: hue, saturation, contrast, brightness, then the ImageNet normalisation."""
    angle = np.deg2rad(rng.uniform(-config.hue_degrees, config.hue_degrees))
    axis = 1 / np.sqrt(3)
    cross = axis * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    hue = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3  # Rodrigues, about the grey axis
    saturation = 1 + rng.uniform(-config.saturation, config.saturation)
    desaturate = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    contrast = 1 + rng.uniform(-config.contrast, config.contrast)
    offset = 0.5 * (1 - contrast) + rng.uniform(-config.brightness, config.brightness)
    matrix = contrast * (desaturate @ hue)
    full = np.concatenate([matrix, np.full((3, 1), offset)], axis=1)
    full[:, 3] -= IMAGENET_MEAN
    return (full / IMAGENET_STD[:, None]).astype(np.float32)


def random_view(
    rgb: NDArray[np.uint8], size: int, rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float32]:
    """One random training view.

    Rotation by any angle, both flips, a random crop and proportion, colour jitter, random erasing (Zhong et al. 2017).

    Args:
        rgb: ``[S, S, 3]`` uint8 RGB squashed copy.
        size: Side of the view in pixels.
        rng: Source of randomness.
        config: Strengths.

    Returns:
        ``[size, size, 3]`` float32, RGB, ImageNet-normalised.
    """
    source = rgb.shape[0]
    side = rng.uniform(*config.crop)
    stretch = rng.uniform(1.0, ASPECT) if rng.random() < config.squash_chance else 1.0
    width, height = side * stretch, side
    free_x, free_y = max(ASPECT - width, 0.0) / 2, max(1.0 - height, 0.0) / 2
    centre = np.array([ASPECT / 2 + rng.uniform(-free_x, free_x), 0.5 + rng.uniform(-free_y, free_y)])
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flips = np.diag(rng.choice([-1.0, 1.0], 2))
    to_scene = np.diag([width, height]) @ rotation @ flips / size
    to_copy = np.diag([source / ASPECT, source])
    linear = to_copy @ to_scene
    shift = to_copy @ centre - linear @ np.full(2, size / 2)
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    view = cv2.warpAffine(rgb, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    out = np.asarray(
        cv2.transform(view.astype(np.float32) * np.float32(1 / 255), _colour_matrix(rng, config)), np.float32
    )
    if rng.random() < config.erase_chance:
        _erase(out, rng, config)
    return out


def _erase(view: NDArray[np.float32], rng: np.random.Generator, config: AugmentConfig) -> None:
    size = view.shape[0]
    area = rng.uniform(*config.erase_area) * size * size
    ratio = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
    height, width = (min(size - 1, max(1, round(float(np.sqrt(a))))) for a in (area * ratio, area / ratio))
    top, left = rng.integers(size - height), rng.integers(size - width)
    view[top : top + height, left : left + width] = rng.standard_normal(3)


def picture_in_view(rgb: NDArray[np.uint8], size: int, view: View) -> NDArray[np.uint8]:
    """What a device would hold after cropping: ``[S, S, 3]`` uint8 RGB copy to ``[size, size, 3]`` uint8 RGB."""
    if view is View.CENTRE_CROP:
        source = rgb.shape[1]
        crop = round(source / ASPECT)
        left = (source - crop) // 2
        rgb = rgb[:, left : left + crop]
    if rgb.shape[:2] != (size, size):
        how = cv2.INTER_AREA if size < rgb.shape[0] else cv2.INTER_LINEAR
        rgb = cv2.resize(rgb, (size, size), interpolation=how).astype(np.uint8, copy=False)
    return rgb


def fixed_view(rgb: NDArray[np.uint8], size: int, view: View) -> NDArray[np.float32]:
    """A view for measuring: ``[S, S, 3]`` uint8 RGB copy to ``[size, size, 3]`` float32, ImageNet-normalised."""
    picture = picture_in_view(rgb, size, view)
    return np.asarray((picture.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD, np.float32)
