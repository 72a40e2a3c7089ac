"""What both peers do with a request: the least that gives the same seven probabilities from the same weights.

They neither keep, nor explain, nor check anything, which is to their advantage. Their input is prepared by the
product's own code, so that the difference is the server's.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engines.manifest import Manifest
from engines.preprocess import preprocess

THREADS = 2


def load(folder: Path) -> torch.jit.ScriptModule:
    """The traced network of ``folder/model.pt``, on two threads as the agent's engine is."""
    torch.set_num_threads(THREADS)
    module: torch.jit.ScriptModule = torch.jit.load(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
    optimised: torch.jit.ScriptModule = torch.jit.optimize_for_inference(module)
    return optimised


def picture(body: dict[str, Any]) -> NDArray[np.uint8]:
    """The picture of a request, ``[H, W, 3]`` uint8 RGB."""
    encoded = np.frombuffer(base64.b64decode(body["image"]), np.uint8)
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def answer(module: torch.jit.ScriptModule, manifest: Manifest, body: dict[str, Any]) -> dict[str, Any]:
    """Probabilities by class name, and the most probable class."""
    with torch.inference_mode():
        probabilities, _ = module(torch.from_numpy(preprocess(picture(body), manifest.input)))
    by_class = dict(zip(manifest.classes, probabilities[0].tolist(), strict=True))
    return {"primary": max(by_class, key=by_class.__getitem__), "all_classes": by_class}
