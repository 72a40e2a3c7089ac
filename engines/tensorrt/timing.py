"""The timing cache: what TensorRT measured of its kernels in earlier builds, so that the next one takes half the time.

It is native data handed back to a native parser, so it is kept with its own sha256 and dropped where that does not fit.
Losing it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from pathlib import Path
from typing import Any, Final

from engines.files import read_small, write_atomically
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.versions import TensorRT

log = logging.getLogger(__name__)

_FOLDER: Final = "timing"
_MAX_BYTES: Final = 64 << 20
_DIGEST: Final = hashlib.sha256().digest_size


class TimingCache:
    """One file for each TensorRT and GPU."""

    def __init__(self, cache: Path, tensorrt: TensorRT, gpu: Gpu) -> None:
        """Nothing is read yet; ``cache`` is the device's cache folder."""
        major, minor = gpu.compute_capability
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{tensorrt.product}-{tensorrt.version}-{gpu.name}-{major}.{minor}")
        self.path = cache / _FOLDER / f"{name}.cache"
        self._usable = tensorrt.timing_cache

    def _read(self) -> bytes:
        try:
            stored = read_small(self.path, _MAX_BYTES)
        except OSError:
            return b""
        data = stored[_DIGEST:]
        return data if hashlib.sha256(data).digest() == stored[:_DIGEST] else b""

    def attach(self, config: Any) -> None:
        """Give the builder what was measured before, or an empty cache to fill."""
        if not self._usable:
            return
        for data in (self._read(), b""):
            cache = config.create_timing_cache(data)
            if cache is not None and config.set_timing_cache(cache, False):
                return
        log.warning("%s: TensorRT takes no timing cache; the build takes longer", self.path)

    def save(self, config: Any) -> None:
        """Keep what the builder measured; a failure is noted and no more."""
        if not self._usable:
            return
        cache = config.get_timing_cache()
        serialised = cache.serialize() if cache is not None else None
        if serialised is None:
            return
        data = bytes(serialised)
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomically(self.path, hashlib.sha256(data).digest() + data)
        except OSError as error:
            log.warning("%s: the timing cache cannot be written (%s)", self.path, error.strerror)
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
