"""Compiles in a process of its own: TensorRT is native code, and its crash must end nobody's work but its own (F12).

The child process takes one request on its standard input, tells its progress and its result on a pipe, and dies with
its parent. Whatever TensorRT prints goes to a file that is shown only where the child crashes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from engines.backend import BundleError
from engines.bundle import load_bundle
from engines.tensorrt.builder import compile_plan
from engines.tensorrt.gpu import Gpu, NoGpu, probe
from engines.tensorrt.listening import Progress
from engines.tensorrt.order import CompileOrder
from engines.tensorrt.plan_key import PlanKey
from engines.tensorrt.plans import Plan, PlanError
from engines.tensorrt.versions import NoTensorRT, find_tensorrt
from engines.trust.verifying import DEMO_TRUST, Trust

log = logging.getLogger(__name__)

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_PR_SET_PDEATHSIG: Final = 1
_EVERY_S: Final = 0.1
_SHOWN: Final = 400
_ERRORS: Final[dict[str, type[Exception]]] = {
    "bundle": BundleError,
    "gpu": NoGpu,
    "tensorrt": NoTensorRT,
    "plan": PlanError,
}


@dataclass(frozen=True)
class Request:
    """What the child process is to compile; plain data, so that it travels."""

    bundle: Path
    cache: Path
    order: CompileOrder = field(default_factory=CompileOrder)
    trust: Trust = DEMO_TRUST
    gpu: Gpu | None = None
    """None: the child asks the driver, before anything of TensorRT is touched (F13)."""
    experimental: bool = False
    """Take TensorRT-RTX where there is no TensorRT."""
    force: bool = False
    verbose: bool = False
    niceness: int = 10
    """The agent answers meanwhile, on the same cores."""


def compile_apart(request: Request, progress: Progress = lambda *_: None) -> Plan:
    """Compile, or find in the cache, in a child process; returns its plan.

    Raises:
        BundleError: the bundle cannot be used.
        NoGpu: there is no GPU to compile for.
        NoTensorRT: there is no TensorRT to compile with.
        PlanError: it cannot be compiled or kept; also where TensorRT crashed.
    """
    told = _plain(request)
    with tempfile.TemporaryFile() as said:
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8") as answers:
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "engines.tensorrt.apart", str(writing), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=None if request.verbose else said,
                    stderr=None if request.verbose else said,
                    pass_fds=[writing],
                    cwd=_ROOT,
                    start_new_session=True,  # Ctrl-C ends it through us
                )
            except OSError as error:
                raise PlanError(f"no process to compile in could be started ({error.strerror})") from error
            finally:
                os.close(writing)
            with _ended(child):
                return _result(child, told, answers, said, progress)


def _plain(request: Request) -> dict[str, Any]:
    told = asdict(request)
    told["bundle"], told["cache"] = str(request.bundle.absolute()), str(request.cache.absolute())
    if request.trust.folder is not None:
        told["trust"]["folder"] = str(request.trust.folder.absolute())
    return told


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, the child has ended afterwards."""
    try:
        yield
    finally:
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        child.kill()
        child.wait()


def _result(
    child: subprocess.Popen[bytes], told: dict[str, Any], answers: IO[str], said: IO[bytes], progress: Progress
) -> Plan:
    assert child.stdin is not None  # noqa: S101 - it was asked for
    with contextlib.suppress(BrokenPipeError):  # it ended at once; its end says why
        child.stdin.write(json.dumps(told).encode())
        child.stdin.close()
    for line in answers:
        answer = json.loads(line)
        if "plan" in answer:
            child.wait()
            return _plan(answer["plan"])
        if "error" in answer:
            raise _ERRORS[answer["kind"]](answer["error"])
        progress(answer["what"], answer["share"])
    raise PlanError(_ending(child.wait(), said))


def _plan(told: dict[str, Any]) -> Plan:
    key = PlanKey(**told.pop("key"))
    return Plan(**{**told, "key": key, "folder": Path(told["folder"]), "notes": tuple(told["notes"])})


def _ending(code: int, said: IO[bytes]) -> str:
    said.seek(0)
    last = " ".join(said.read().decode(errors="replace").split())[-_SHOWN:]
    after = f"; its last words: {last}" if last else ""
    if code == -signal.SIGKILL:
        return (
            "the compilation was killed, most often by the system for want of memory: end other programs, or compile"
            f" with a smaller --max-batch or --workspace-mb{after}"
        )
    how = f"ended with status {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"crashed ({signal.Signals(-code).name})"
    return f"TensorRT {how} while it compiled; update TensorRT and the driver, or compile with another --typing{after}"


def _compile(told: dict[str, Any], progress: Progress) -> Plan:
    folder = told["trust"]["folder"]
    trust = Trust(Path(folder) if folder else None, told["trust"]["require_trusted"])
    bundle = load_bundle(Path(told["bundle"]), trust=trust)
    tensorrt = find_tensorrt(experimental=told["experimental"])
    gpu = probe(needs_cuda=tensorrt.cuda_major) if told["gpu"] is None else _gpu(told["gpu"])
    return compile_plan(
        bundle,
        CompileOrder(**told["order"]),
        progress,
        cache=Path(told["cache"]),
        tensorrt=tensorrt,
        gpu=gpu,
        force=told["force"],
        verbose=told["verbose"],
    )


def _gpu(told: dict[str, Any]) -> Gpu:
    return Gpu(**{**told, **{pair: tuple(told[pair]) for pair in ("compute_capability", "cuda")}})


class _Teller:
    """Writes answers to the parent, progress not too often."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._last = 0.0

    def tell(self, **answer: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and so are we in a moment
            os.write(self._handle, json.dumps(answer).encode() + b"\n")

    def progress(self, what: str, share: float | None) -> None:
        now = time.monotonic()
        if share is None or now - self._last >= _EVERY_S:
            self._last = now
            self.tell(what=what, share=share)


def _tie_to_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(0)


def main(arguments: list[str]) -> None:
    """The child process: ``python -m engines.tensorrt.apart PIPE_FD PARENT_PID``."""
    _tie_to_parent(int(arguments[1]))
    teller = _Teller(int(arguments[0]))
    told = json.loads(sys.stdin.buffer.read())
    os.nice(told["niceness"])
    logging.basicConfig(level=logging.INFO if told["verbose"] else logging.WARNING, format="%(message)s")
    kinds = {kind: name for name, kind in _ERRORS.items()}
    try:
        plan = _compile(told, teller.progress)
    except tuple(kinds) as error:
        teller.tell(error=str(error), kind=next(name for kind, name in kinds.items() if isinstance(error, kind)))
    except Exception as error:
        log.info("compiling failed", exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        teller.tell(error=f"compiling failed ({text}); dermascan engine compile --verbose shows where", kind="plan")
    else:
        teller.tell(plan={**asdict(plan), "folder": str(plan.folder)})


if __name__ == "__main__":
    main(sys.argv[1:])
