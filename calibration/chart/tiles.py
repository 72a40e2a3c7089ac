"""Several shots of one chart as tiles: a dermoscope's 10-20 mm field shows only a few patches at a time.

A tile with six patches or more usually says by its colours which part of the chart it is. One with fewer does not, but
once other tiles are known, so is the camera's matrix, and then two patches are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.chart.blobs import Picture
from calibration.chart.detect import Detection, Search
from calibration.chart.failures import ChartNotFound
from calibration.chart.match import Anchors
from calibration.references import COLORCHECKER24, ReferenceChart


def detect_tiles(pictures: Sequence[Picture], *, target: ReferenceChart | None = None) -> list[Detection]:
    """Find which part of the chart each picture shows; join them with :func:`merge_patches`.

    Args:
        pictures: uint8 [H,W,3] RGB each, same light, exposure and camera, flat field already corrected.
        target: a vendor's own chart instead of the 24 patches.

    Raises:
        ChartNotFound: a picture cannot be placed; the sentence begins with its number.
    """
    reference = target or COLORCHECKER24
    found: dict[int, Detection] = {}
    failures: dict[int, ChartNotFound] = {}
    searches: dict[int, Search] = {}
    for number, picture in enumerate(pictures):
        try:
            searches[number] = Search(picture, reference, tile=True)
            found[number] = searches[number].run(None, 0.0)
        except ChartNotFound as failure:
            failures[number] = failure
    if found:
        anchors = _anchors(list(found.values()), reference)
        for number in sorted(set(failures) & set(searches)):
            try:
                found[number] = searches[number].run(None, 0.0, anchors)
                del failures[number]
            except ChartNotFound as failure:
                failures[number] = failure
    if failures:
        number = min(failures)
        raise ChartNotFound(f"Picture {number + 1} of {len(pictures)}: {failures[number]}")
    return [found[number] for number in range(len(pictures))]


def _anchors(detections: list[Detection], reference: ReferenceChart) -> Anchors:
    index = {name: place for place, name in enumerate(reference.patch_names)}
    clean = [~(each.patches.clipped | each.patches.crushed) for each in detections]
    linear = np.concatenate([each.patches.linear[keep] for each, keep in zip(detections, clean, strict=True)])
    places = [
        index[name] for each, keep in zip(detections, clean, strict=True) for name in np.array(each.patches.names)[keep]
    ]
    return Anchors(linear, reference.lab_d50[places])
