"""CUDA graphs: what a stream was asked once, asked again as one launch. Through cuda-bindings, as pycuda has none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

_MODULES: Final = ("cuda.bindings.driver", "cuda.cuda")
"""Where NVIDIA's bindings have the driver API: since 12.8, and before."""


class GraphRefused(Exception):
    """The work cannot be recorded, or the recording cannot be used; run it without."""


def import_driver() -> Any | None:
    """NVIDIA's bindings of the driver API; None where they are not installed."""
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _asked(driver: Any, function: str, *arguments: object) -> Any:
    """Call the driver; the bindings answer with a tuple that begins with the error code."""
    code, *rest = getattr(driver, function)(*arguments)
    if code != driver.CUresult.CUDA_SUCCESS:
        raise GraphRefused(f"{function}: {getattr(code, 'name', code)}")
    return rest[0] if rest else None


class Graph:
    """Recorded work on one stream. It holds the addresses and the shapes that it was recorded with."""

    def __init__(self, driver: Any, executable: Any, stream: int) -> None:
        self._driver, self._executable, self._stream = driver, executable, stream

    def launch(self) -> None:
        """Queue the recorded work on its stream; :class:`GraphRefused` where the driver does not take it."""
        _asked(self._driver, "cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Give it back; its stream must have been waited for."""
        _asked(self._driver, "cuGraphExecDestroy", self._executable)


def record(driver: Any, stream: int, work: Callable[[], None]) -> Graph:
    """Record what ``work`` queues on ``stream``, without running it.

    Args:
        driver: from :func:`import_driver`.
        stream: the handle of a stream that is not the default one, with nothing left to do.
        work: queues on that stream only, and waits for nothing. TensorRT must have run the same shapes once before, in
            the same execution context, which then belongs to this graph alone.

    Raises:
        GraphRefused: something in it cannot be recorded. The stream can be used again.
    """
    # Only calls of this thread are held to the rules of recording.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _asked(driver, "cuStreamBeginCapture", stream, mode)
    try:
        work()
    except BaseException:
        driver.cuStreamEndCapture(stream)  # whatever it answers: the stream leaves its recording
        raise
    graph = _asked(driver, "cuStreamEndCapture", stream)
    try:
        return Graph(driver, _asked(driver, "cuGraphInstantiate", graph, 0), stream)
    finally:
        _asked(driver, "cuGraphDestroy", graph)
