"""Hears what TensorRT's builder says: errors and warnings in its log, and how far it is. Explains in one sentence.

TensorRT returns None or False where others raise, and says why only in its log.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

Progress = Callable[[str, "float | None"], None]
"""Told of what is being done, and of the share of it that is done (0 to 1; None where that is not known). It is called
from TensorRT's threads as well, and must not raise."""

_KEPT: Final = 50
_WORDS: Final = 600
_NOISE: Final = (
    re.compile(r"^\d+: "),
    re.compile(r"^I?\w+::\w+: "),
    re.compile(r"Error Code \d+: "),
    re.compile(r"\[[\w./]+\.(?:cpp|h|cu)(?:::\w+)*(?::\d+: ?\w*)?\] ?"),
    re.compile(r"\.?\s*In \w+ at [^\s)]+:\d+"),
)
_REMEDIES: Final[dict[str, str]] = {
    r"out of memory|OutOfMemory|OUT_OF_MEMORY|insufficient memory|MEM_ALLOC|Requested size was": (
        "there is too little GPU memory for it: end other programs that use the GPU, or compile with a smaller"
        " --max-batch or --workspace-mb"
    ),
    r"CUDA initialization failure|cudaError|CUDA driver version|no CUDA-capable|CUDA error": (
        "the GPU or its driver does not answer: see dmesg, and install the driver again"
    ),
    r"workspace": "it needs more working memory than it was allowed: give it more --workspace-mb, or leave that out",
    r"Could not find any implementation|[Nn]o implementation": (
        "TensorRT has no kernel for a part of the network here: update TensorRT, give it more --workspace-mb, or"
        " compile with another --typing or --precision"
    ),
    r"not supported|[Uu]nsupported|Cannot compile operation": (
        "this TensorRT cannot build this network for this GPU: update TensorRT, or compile with another --typing or"
        " --precision"
    ),
}
"""What to do, by what the builder's messages hold."""


class Heard:
    """What TensorRT said while it worked."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._lock = threading.Lock()

    def add(self, *, error: bool, text: str) -> None:
        """Keep a message; the newest ones where there are many, each once."""
        with self._lock:
            kept = self.errors if error else self.warnings
            if text not in kept:
                kept.append(text)
                del kept[:-_KEPT]

    def why(self) -> str:
        """Why it failed, in one sentence, with what to do about it."""
        return explain(self.errors)


def clean(text: str) -> str:
    """A message without the names and line numbers of TensorRT's source."""
    text = " ".join(text.split())
    for pattern in _NOISE:
        text = pattern.sub("", text)
    return text.strip(" .:").replace(".)", ")")[:_WORDS]


def explain(errors: Sequence[str]) -> str:
    """The first error, which the others follow from, and what to do."""
    if not errors:
        return "TensorRT did not say why; run dermascan engine compile --verbose to see all that it says"
    said = "\n".join(errors)
    remedy = next((words for what, words in _REMEDIES.items() if re.search(what, said)), "see TensorRT's documentation")
    return f"{clean(errors[0])}; {remedy}"


def make_logger(trt: Any, heard: Heard, *, verbose: bool = False) -> Any:
    """An ``ILogger`` that keeps errors and warnings in ``heard`` and passes everything on to our log.

    TensorRT keeps a pointer to the first logger it gets: hold on to it as long as the process uses TensorRT.
    """
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc] # the module is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 refuses an instance whose own __init__ was not called

        def log(self, level: Any, message: str) -> None:
            if level in {severity.ERROR, severity.INTERNAL_ERROR}:
                heard.add(error=True, text=message)
                log.debug("TensorRT: %s", message)
            elif level == severity.WARNING:
                heard.add(error=False, text=message)
                log.debug("TensorRT warns: %s", message)
            elif verbose:
                log.info("TensorRT: %s", message)

    return Logger()


class Phases:
    """Turns the builder's nested phases into one share that only grows."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._stack: list[tuple[str, int]] = []
        self._done: dict[str, int] = {}
        self._best = 0.0

    def start(self, name: str, steps: int) -> None:
        """A phase of so many steps has begun within the innermost one."""
        with self._lock:
            self._stack.append((name, max(steps, 1)))
            self._done[name] = 0
        self._tell(name)

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done."""
        with self._lock:
            self._done[name] = max(self._done.get(name, 0), step + 1)
        self._tell(name)

    def finish(self, name: str) -> None:
        """A phase has ended, with all its steps or before."""
        with self._lock:
            self._stack = [entry for entry in self._stack if entry[0] != name]
            self._done.pop(name, None)

    def _tell(self, name: str) -> None:
        with self._lock:
            share = 0.0
            for phase, steps in reversed(self._stack):
                share = min((self._done.get(phase, 0) + share) / steps, 1.0)
            self._best = max(self._best, share)
            share = self._best
        self._progress(name, share)


def make_monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that tells ``progress``."""
    phases = Phases(progress)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # the module is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
