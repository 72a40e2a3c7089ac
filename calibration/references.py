"""What the patches of a colour chart should measure: the 24-patch classic, and a vendor's own target from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class ReferenceUnreadable(ValueError):
    """A reference file cannot be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class ReferenceChart:
    """A chart's known colours, in rows from the top left as the maker's picture shows it."""

    name: str
    patch_names: tuple[str, ...]
    lab_d50: FloatArray
    """float64 [N,3]: CIE L*a*b*, illuminant D50, 2 degree observer."""
    rows: int
    columns: int
    neutral: tuple[int, ...]
    """Indices of the grey patches, from light to dark; empty where the chart has none."""

    def __post_init__(self) -> None:
        count = self.rows * self.columns
        if len(self.patch_names) != count or self.lab_d50.shape != (count, 3):
            raise ValueError(f"a chart of {self.rows} x {self.columns} patches needs {count} names and Lab values")
        if len(set(self.patch_names)) != count:
            raise ValueError("two patches of the chart have the same name")
        self.lab_d50.setflags(write=False)


# ColorChecker Classic as made since November 2014 (X-Rite's published averages): Lab, D50, 2 degrees. Passport, mini
# and Nano carry the same colours.
_CLASSIC: Final = {
    "dark skin": (37.54, 14.37, 14.92),
    "light skin": (64.66, 19.27, 17.50),
    "blue sky": (49.32, -3.82, -22.54),
    "foliage": (43.46, -12.74, 22.72),
    "blue flower": (54.94, 9.61, -24.79),
    "bluish green": (70.48, -32.26, -0.37),
    "orange": (62.73, 35.83, 56.50),
    "purplish blue": (39.43, 10.75, -45.17),
    "moderate red": (50.57, 48.64, 16.67),
    "purple": (30.10, 22.54, -20.87),
    "yellow green": (71.77, -24.13, 58.19),
    "orange yellow": (71.51, 18.24, 67.37),
    "blue": (28.37, 15.42, -49.80),
    "green": (54.38, -39.72, 32.27),
    "red": (42.43, 51.05, 28.62),
    "yellow": (81.80, 2.67, 80.41),
    "magenta": (50.63, 51.28, -14.12),
    "cyan": (49.57, -29.71, -28.32),
    "white": (95.19, -1.03, 2.93),
    "neutral 8": (81.29, -0.57, 0.44),
    "neutral 6.5": (66.89, -0.75, -0.06),
    "neutral 5": (50.76, -0.13, 0.14),
    "neutral 3.5": (35.63, -0.46, -0.48),
    "black": (20.64, 0.07, -0.46),
}

COLORCHECKER24: Final = ReferenceChart(
    name="ColorChecker24 (after November 2014)",
    patch_names=tuple(_CLASSIC),
    lab_d50=np.array(list(_CLASSIC.values()), dtype=np.float64),
    rows=4,
    columns=6,
    neutral=(18, 19, 20, 21, 22, 23),
)
