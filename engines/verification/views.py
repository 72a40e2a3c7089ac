"""Views of the golden image: a few different pictures for a device that has no others, made without any randomness."""

from __future__ import annotations

from typing import Final

import numpy as np

from engines.backend import Images

_SHIFT: Final = 8
"""Half a patch: what lay in one patch is then spread over four."""


def views(golden: Images) -> Images:
    """Turn the golden input ``[1, 3, S, S]`` into ``[16, 3, S, S]``; the first is the golden input itself.

    The eight symmetries of the square, weaker and stronger contrast, darker and brighter, shifts by half a patch, and
    fixed noise. A network whose patches, positions or normalisation are computed wrongly fails at some of them even
    where it happens to be right on one picture.
    """
    picture = golden[0]
    turned = [np.rot90(side, quarter, axes=(1, 2)) for side in (picture, picture[:, :, ::-1]) for quarter in range(4)]
    noise = np.random.default_rng(0).standard_normal((2, *picture.shape), dtype=np.float32)
    others = [
        picture * np.float32(0.6),
        picture * np.float32(1.4),
        picture - np.float32(0.5),
        picture + np.float32(0.5),
        np.roll(picture, _SHIFT, axis=1),
        np.roll(picture, _SHIFT, axis=2),
        picture + np.float32(0.1) * noise[0],
        picture + np.float32(0.3) * noise[1],
    ]
    return np.ascontiguousarray(np.stack([*turned, *others]), dtype=np.float32)
