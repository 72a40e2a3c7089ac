"""The child process that runs OpenCV's chart detector: a picture on standard input, boxes as JSON on standard output.

In OpenCV 5 the detector can take its process down with it (touching the best checker after a failed ``process()`` is a
segmentation fault), and its clustering is random. So it runs apart, seeded, and says only where it believes a chart is;
whether there is one, the colours decide in the parent.
"""

from __future__ import annotations

import json
import sys
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

TRIES: Final = ((0, 1), (0, 3), (1, 1))
"""(seed, number of charts looked for): each finds charts that another misses."""


def boxes(rgb: NDArray[np.uint8]) -> list[list[list[float]]]:
    """Where the detector believes charts are: corners [[x, y] x 4] of the patch area, each box once.

    Args:
        rgb: uint8 [H,W,3], RGB.
    """
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    found: list[NDArray[np.float64]] = []
    for seed, charts in TRIES:
        cv2.setRNGSeed(seed)
        detector = cv2.mcc.CCheckerDetector.create()
        if not detector.process(bgr, charts):
            continue  # no checker may be asked for now: getBestColorChecker() would crash
        for checker in detector.getListColorChecker():
            box = np.array(checker.getBox(), dtype=np.float64).reshape(4, 2)
            if np.isfinite(box).all() and not any(np.abs(box - other).max() < 10 for other in found):
                found.append(box)
    return [box.tolist() for box in found]


def main() -> int:
    """Read one picture (a JSON line with its shape, then its bytes), write one JSON line of boxes."""
    cv2.setNumThreads(1)  # a seed holds for one thread only
    source = sys.stdin.buffer
    height, width = json.loads(source.readline())
    rgb = np.frombuffer(source.read(height * width * 3), dtype=np.uint8).reshape(height, width, 3)
    sys.stdout.write(json.dumps(boxes(rgb)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
