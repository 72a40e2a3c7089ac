"""The agent's handle on the child process that gets a plan ready: one order in, progress and one outcome out.

The child (``engines.tensorrt.prepare``) gets the order as a line of JSON on its standard input, which then stays open
as its lifeline. It answers with lines of JSON: any number of ``{"doing": ..., "share": ...}``, and then either
``{"options": ..., "what": ..., "notes": ...}`` or ``{"failed": ..., "soon": ..., "anew": ...}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_REAP_S: Final = 5.0
COMMAND: Final = (sys.executable, "-m", "engines.tensorrt.prepare")


@dataclass(frozen=True)
class Order:
    """What the child is to get ready."""

    bundle: Path
    manifest_sha256: str
    """Of the manifest whose signature the agent verified."""
    cache: Path
    max_batch: int = 8
    graphs: bool = True
    doubted: bool = False
    """The plan that there is failed at work: prove it again."""
    anew: bool = False
    """The plan that there is was proved wrong: compile it again."""

    def to_json(self) -> str:
        """One line; with whole paths, as the child works in another folder."""
        return json.dumps({**asdict(self), "bundle": str(self.bundle.absolute()), "cache": str(self.cache.absolute())})

    @staticmethod
    def from_json(text: str) -> Order:
        """From that line."""
        told = json.loads(text)
        return Order(**{**told, "bundle": Path(told["bundle"]), "cache": Path(told["cache"])})


@dataclass(frozen=True)
class Prepared:
    """A plan that was proved: how a worker opens it, what it is, and what should be known of its making."""

    options: Mapping[str, Any]
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """There is no plan that may answer. ``soon``: it costs little to look again, as where no GPU was found."""

    why: str
    soon: bool
    anew: bool = False
    """The plan that there is is wrong: compile it again, in another child, whose GPU context nothing has hurt."""


class Preparation:
    """One started child. :meth:`kill` may be called from any thread, :meth:`wait` from the one that made it."""

    def __init__(self, order: Order, command: Sequence[str] = COMMAND) -> None:
        """Start it; a process that cannot be started is an outcome like others."""
        self._process: subprocess.Popen[str] | None = None
        self._why_not = ""
        try:
            self._process = process = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=_ROOT,
                start_new_session=True,
            )
        except OSError as error:
            self._why_not = f"the process that compiles the model could not be started ({error.strerror})"
        else:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            with contextlib.suppress(OSError):  # it ended at once; how, wait() tells
                process.stdin.write(order.to_json() + "\n")
                process.stdin.flush()

    def wait(self, timeout_s: float, progress: Callable[[str, float | None], None]) -> Prepared | Failed:
        """Wait for the outcome; ``progress`` is told what is being done, and which share of it is done."""
        process = self._process
        if process is None or process.stdout is None:
            return Failed(self._why_not, soon=False)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        outcome: Prepared | Failed | None = None
        try:
            for line in process.stdout:
                if (outcome := _read(line, progress)) is not None:
                    break
        finally:
            timer.cancel()
            ended = self._reap(process)
        if outcome is not None:
            return outcome
        if late.is_set():
            return Failed(f"no compiled model was ready within {timeout_s:.0f} s", soon=False)
        return Failed(f"the process that compiles the model ended ({ended})", soon=False)

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            self._process.kill()

    @staticmethod
    def _reap(process: subprocess.Popen[str]) -> str:
        """Make sure that it ends; how it did, in words."""
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an order that was never read
                    pipe.close()
        try:
            code = process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver call until that returns
                process.wait(_REAP_S)
            return "it did not end by itself"
        if code == -signal.SIGKILL:
            return "killed, most often by the system for want of memory"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _read(line: str, progress: Callable[[str, float | None], None]) -> Prepared | Failed | None:
    """One line of the child's; None while it goes on."""
    try:
        told = json.loads(line)
        if "failed" in told:
            return Failed(str(told["failed"]), bool(told["soon"]), bool(told["anew"]))
        if "options" in told:
            return Prepared(dict(told["options"]), str(told["what"]), tuple(told["notes"]))
        share = told["share"]
        progress(str(told["doing"]), None if share is None else float(share))
    except (ValueError, TypeError, KeyError):
        return Failed(f"the process that compiles the model said {line.strip()[:80]!r}", soon=False)
    return None
