"""Which device nodes a Jetson's GPU is behind: they differ from release to release, so the device is looked at.

A T4's nodes are named by their driver in the unit itself (``char-nvidia*``) and need nothing.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

PATTERNS: Final = (
    "nvmap",
    "nvhost-*",
    "nvgpu/*/*",
    "nvsciipc",
    "host1x-fence",
    "tegra-*",
    "dri/renderD*",
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-uvm*",
    "nvidia-caps/*",
)
"""Of JetPack 5 to 7: the first ones are Tegra's own, the last ones those of Jetsons with the desktop driver (Thor)."""
_TEGRA_RELEASE: Final = "/etc/nv_tegra_release"
_COMPATIBLE: Final = "/proc/device-tree/compatible"


def is_jetson(root: Path) -> bool:
    """Whether the device is a Jetson: NVIDIA's release file, or what the firmware calls the board."""
    if (root / _TEGRA_RELEASE.lstrip("/")).exists():
        return True
    try:
        return b"nvidia,tegra" in (root / _COMPATIBLE.lstrip("/")).read_bytes()
    except OSError:
        return False


def gpu_nodes(dev: Path) -> list[str]:
    """The nodes below ``dev`` that belong to a Jetson's GPU, as ``/dev/…``, sorted."""
    nodes = {path for pattern in PATTERNS for path in dev.glob(pattern) if _is_node(path)}
    return sorted(f"/dev/{node.relative_to(dev)}" for node in nodes)


def drop_in(template: str, nodes: list[str]) -> str:
    """The drop-in that lets a service use these nodes."""
    return template.replace("@DEVICES@", "\n".join(f"DeviceAllow={node} rw" for node in nodes))


def _is_node(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
