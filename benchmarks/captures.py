"""Captures for measuring: one synthetic picture, written again and again with different bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agent.demo.render import render_lesion


@dataclass(frozen=True)
class Kind:
    """A sort of capture; sizes in pixels."""

    name: str
    width: int
    height: int
    suffix: str


JPEG_XGA = Kind("1024×768 JPEG", 1024, 768, ".jpg")
JPEG_12MP = Kind("4000×3000 JPEG", 4000, 3000, ".jpg")
PNG_XGA = Kind("1024×768 PNG", 1024, 768, ".png")


def distinct(kind: Kind, seed: int = 7) -> Iterator[bytes]:
    """Endless files of one kind that decode to (nearly) the same picture and never have the same bytes."""
    bgr = cv2.cvtColor(render_lesion(seed, kind.width, kind.height), cv2.COLOR_RGB2BGR)
    number = time.time_ns()
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    jpeg = encoded.tobytes()
    while True:
        number += 1
        if kind.suffix == ".jpg":
            comment = str(number).encode()
            yield jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
        else:
            bgr[0, :8, 0] = np.frombuffer(number.to_bytes(8, "big"), np.uint8)
            yield cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def write(folder: Path, name: str, data: bytes) -> float:
    """Write a file as a plain camera does; returns the monotonic time just after its close, in seconds."""
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return time.monotonic()
