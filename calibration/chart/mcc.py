"""OpenCV's chart detector (``cv2.mcc``) behind a process of its own, with a time limit."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from calibration.chart.blobs import FloatArray, Picture
from calibration.chart.failures import ChartNotFound

log = logging.getLogger(__name__)

CHILD: Final = (sys.executable, "-m", "calibration.chart.child")
ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""Folder that holds the package: ``-m`` looks in the working directory first."""


def mcc_boxes(rgb: Picture, *, timeout_s: float, command: tuple[str, ...] = CHILD) -> list[FloatArray]:
    """Where OpenCV's detector believes charts are; empty where it found none or died.

    Args:
        rgb: uint8 [H,W,3], RGB; about 900 pixels on the longer side.
        timeout_s: limit for the process, its start included.
        command: the process; tests give one that misbehaves.

    Returns:
        float64 [4,2] each: corners of the patch area in pixels, in no order to rely on.

    Raises:
        ChartNotFound: the time limit passed.
    """
    height, width = rgb.shape[:2]
    message = json.dumps([height, width]).encode() + b"\n" + np.ascontiguousarray(rgb).tobytes()
    try:
        done = subprocess.run(command, input=message, capture_output=True, cwd=ROOT, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise ChartNotFound(
            f"Looking for the chart took longer than {timeout_s:g} s and was stopped: "
            "take a picture that the chart fills, or give its corners with --corners."
        ) from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        log.warning(
            "OpenCV's chart detector ended with code %d: %s", done.returncode, words[-1] if words else "no word"
        )
        return []
    try:
        found = [np.array(box, dtype=np.float64).reshape(4, 2) for box in json.loads(done.stdout)]
    except (ValueError, TypeError):
        log.warning("OpenCV's chart detector answered with something else than boxes")
        return []
    return [box for box in found if np.isfinite(box).all()]
