"""An examination: the checks run in another process, which is ended in time whatever they hang in."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from agent.doctor.finding import Finding, Kind, Mend, Outcome

CHECKS: Final = "agent.doctor.checks:CHECKS"
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_START_S: Final = 60.0
_REAP_S: Final = 2.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """What was found, in the order of the checks."""

    device: str | None
    titles: dict[str, str]
    findings: tuple[Finding, ...]
    took_s: float

    def count(self, outcome: Outcome) -> int:
        """How many findings have an outcome."""
        return sum(finding.outcome is outcome for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: all is well, 1: a warning, 2: something failed."""
        return 2 if self.count(Outcome.FAILED) else 1 if self.count(Outcome.WARNING) else 0

    def title(self, finding: Finding) -> str:
        """The check's title."""
        return self.titles.get(finding.check, finding.check)


def examine(
    config: Path,
    names: Sequence[str] = (),
    *,
    checks: str = CHECKS,
    progress: Progress = lambda _done, _of: None,
) -> Examination:
    """Look at everything, or at what is named; takes as long as the slowest check and never longer than its limit."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "agent.doctor.worker", str(config.absolute()), checks, *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        start_new_session=True,
    )
    assert child.stdout is not None  # noqa: S101 - it was asked for
    listening = _Listening(child.stdout, began)
    try:
        listening.listen(progress)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # hung in the kernel: it is left to it
            child.wait(_REAP_S)
        child.stdout.close()
    return listening.examination(time.monotonic() - began)


class _Listening:
    """Puts together what the process tells, line by line."""

    def __init__(self, answers: IO[bytes], began: float) -> None:
        self._answers, self._limits, self._buffer = answers, {"": began + _START_S}, b""
        self._checks: dict[str, dict[str, Any]] = {}
        self._found: dict[str, list[Finding]] = {}
        self._device: str | None = None

    def listen(self, progress: Progress) -> None:
        """Until every check has answered, or had its time, or the process has ended."""
        handle = self._answers.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            while self._limits:
                left = max(self._limits.values()) - time.monotonic()
                if left <= 0 or not selector.select(min(left, 0.5)):
                    self._give_up_late_ones()
                    continue
                if not (data := os.read(handle, 1 << 16)):
                    return
                self._take(data)
                progress(len(self._found), len(self._checks))

    def _give_up_late_ones(self) -> None:
        now = time.monotonic()
        self._limits = {name: until for name, until in self._limits.items() if until > now}

    def _take(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "checks" in answer:
                now, self._device = time.monotonic(), answer["device"]
                self._checks = {check["name"]: check for check in answer["checks"]}
                self._limits = {name: now + check["limit_s"] for name, check in self._checks.items()}
            elif self._limits.pop(answer["name"], None) is not None:
                self._found[answer["name"]] = [_finding(one) for one in answer["findings"]]

    def examination(self, took_s: float) -> Examination:
        """What was found; who said nothing is told to have hung, or to have broken off."""
        findings: list[Finding] = []
        for name, check in self._checks.items():
            silent = _finding(check["silent"])
            if name not in self._found and took_s < check["limit_s"]:
                silent = replace(silent, sentence="It broke off without an answer.")
            findings += self._found.get(name, [silent])
        if not self._checks:
            sentence = "The doctor could not begin: its own process ended or hangs."
            remedy = "install dermascan-edge again; then run: dermascan doctor"
            findings = [Finding("doctor", Outcome.FAILED, sentence, "Nothing could be looked at.", remedy)]
        titles = {name: check["title"] for name, check in self._checks.items()}
        return Examination(self._device, titles, tuple(findings), took_s)


def _finding(data: dict[str, Any]) -> Finding:
    mend = data["mend"]
    return Finding(
        **{
            **data,
            "outcome": Outcome(data["outcome"]),
            "mend": None if mend is None else Mend(Kind(mend["kind"]), mend["path"], mend["mode"]),
        }
    )
