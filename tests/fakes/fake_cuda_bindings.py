"""cuda.bindings.driver as far as the graphs use it, on the pretended card. Names and arguments: cuda-bindings 13.0."""

from __future__ import annotations

from enum import IntEnum

from tests.fakes.fake_gpu import CARD, CardError


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class CUgraph(int):
    """A recording that cannot be launched yet."""


class CUgraphExec(int):
    """One that can."""


def _code(function: str) -> CUresult:
    CARD.check(function)
    return CUresult(CARD.codes.pop(function, 0))


def cuStreamBeginCapture(hStream: int, mode: CUstreamCaptureMode) -> tuple[CUresult]:  # noqa: N802, N803
    assert isinstance(mode, CUstreamCaptureMode)
    if code := _code("cuStreamBeginCapture"):
        return (code,)
    stream = CARD.streams[hStream]
    if stream.waiting:
        raise CardError("a recording begins on a stream that still has work")
    stream.recording = []
    return (CUresult.CUDA_SUCCESS,)


def cuStreamEndCapture(hStream: int) -> tuple[CUresult, CUgraph | None]:  # noqa: N802, N803
    code, stream = _code("cuStreamEndCapture"), CARD.streams[hStream]
    work, stream.recording = stream.recording, None
    if code or work is None:
        return code or CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
    graph = CUgraph(CARD.new_handle())
    CARD.graphs[graph] = work
    return code, graph


def cuGraphInstantiate(hGraph: CUgraph, flags: int) -> tuple[CUresult, CUgraphExec | None]:  # noqa: N802, N803
    if code := _code("cuGraphInstantiate"):
        return code, None
    executable = CUgraphExec(CARD.new_handle())
    CARD.graphs[executable] = list(CARD.graphs[hGraph])
    return CUresult.CUDA_SUCCESS, executable


def cuGraphLaunch(hGraphExec: CUgraphExec, hStream: int) -> tuple[CUresult]:  # noqa: N802, N803
    assert isinstance(hGraphExec, CUgraphExec)
    if code := _code("cuGraphLaunch"):
        return (code,)
    for step in CARD.graphs[hGraphExec]:
        CARD.streams[hStream].add(step)
    return (CUresult.CUDA_SUCCESS,)


def cuGraphExecDestroy(hGraphExec: CUgraphExec) -> tuple[CUresult]:  # noqa: N802, N803
    code = _code("cuGraphExecDestroy")
    del CARD.graphs[hGraphExec]
    return (code,)


def cuGraphDestroy(hGraph: CUgraph) -> tuple[CUresult]:  # noqa: N802, N803
    code = _code("cuGraphDestroy")
    del CARD.graphs[hGraph]
    return (code,)
