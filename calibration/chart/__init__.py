"""Colour charts in pictures: find one, measure its patches, say plainly why there is none."""

from calibration.chart.detect import Detection, detect_chart
from calibration.chart.draw import draw_detection
from calibration.chart.failures import ChartNotFound
from calibration.chart.measure import Patches, evened, merge_patches
from calibration.chart.tiles import detect_tiles

__all__ = [
    "ChartNotFound",
    "Detection",
    "Patches",
    "detect_chart",
    "detect_tiles",
    "draw_detection",
    "evened",
    "merge_patches",
]
