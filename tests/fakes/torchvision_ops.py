"""Lets torchvision and timm be imported beside a torch for the CPU, although their wheel is built for CUDA.

torchvision's compiled operators do not load there, and its import fails where it describes two of them. Declared
beforehand, without any code, they satisfy it; the Vision Transformers use none of them.
"""

from __future__ import annotations

import pytest

_DECLARED: list[object] = []
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare() -> None:
    """Declare what is missing, once in a process; call it before importing torchvision or timm."""
    torch = pytest.importorskip("torch", reason="torch is not installed: scripts/setup.sh .venv everything")
    if _DECLARED or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    _DECLARED.append(library)  # the declarations end with the object
