"""The other side: the reference cloud (``dermascan cloud``) in a process of its own, and what it says it has heard."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.demo.child import ChildFailed, end, last_words, start

LEDGER: Final = "cloud.db"
"""Its file in the state folder: what it heard in earlier demonstrations stays in it."""
HEARS_S: Final = 30.0
_REPORT_S: Final = 30.0
_LOOK_S: Final = 0.02
_SUBSCRIBED: Final = b"subscribed at "
"""How the cloud's log says that from now on it hears everything."""
_CLOUD: Final = ("-m", "agent.cli", "cloud")


@dataclass(frozen=True)
class Heard:
    """What the cloud's own report says of one topic of one device, since the ledger was begun."""

    events: int
    """Different ones."""
    repeats: int
    """Deliveries of an event that it had already; each was passed over."""
    unreadable: int
    missing: int
    """Numbers below ``highest`` of which no event came."""
    highest: int
    gaps: tuple[tuple[int, int], ...]
    """The first of the missing, as (first, last)."""
    reused: int = 0
    """Events with a number that another had before: the agent's database was deleted, the ledger was not."""

    def has(self, number: int) -> bool:
        """Whether the event with this number was heard."""
        beyond = self.gaps and self.missing > sum(last - first + 1 for first, last in self.gaps)
        if beyond and number > self.gaps[-1][1]:
            return False  # it does not list them all
        return number <= self.highest and not any(first <= number <= last for first, last in self.gaps)

    @property
    def once_each(self) -> bool:
        """Whether there are as many events as numbers: none is there twice."""
        return self.events - self.reused == self.highest - self.missing


NOTHING: Final = Heard(0, 0, 0, 0, 0, ())


class CloudSide:
    """Owns the cloud's process."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        """Start it; its ledger and log lie in ``folder``."""
        self.ledger, self._log = folder / LEDGER, folder / "cloud.log"
        command = [*_CLOUD, "--broker", f"127.0.0.1:{broker_port}", "--ledger", str(self.ledger)]
        self.process = start(command, self._log)

    def wait_hearing(self) -> None:
        """Wait until it has subscribed; raises ChildFailed where it does not come to that."""
        until = time.monotonic() + HEARS_S
        while _SUBSCRIBED not in self._log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > until:
                raise ChildFailed(f"the reference cloud does not hear the broker: {last_words(self._log)}")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """End it."""
        end(self.process)


def ask_ledger(ledger: Path, clinic_id: str, device_id: str, topic: str) -> Heard:
    """What ``dermascan cloud report`` says of one topic; asked as anybody would, in a process of its own.

    Raises:
        ChildFailed: there is no report.
    """
    command = [sys.executable, *_CLOUD, "report", "--ledger", str(ledger), "--json"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_REPORT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"dermascan cloud report did not answer within {_REPORT_S:.0f} s") from None
    if said.returncode not in {0, 3}:  # 3: something is missing, and the report says what
        raise ChildFailed(f"dermascan cloud report failed: {' '.join(said.stderr.split())}")
    for line in said.stdout.splitlines():
        device = json.loads(line)
        if (device["clinic_id"], device["device_id"]) == (clinic_id, device_id):
            return next((_heard(stream) for stream in device["streams"] if stream["topic"] == topic), NOTHING)
    return NOTHING


def _heard(stream: dict[str, Any]) -> Heard:
    return Heard(
        events=stream["heard"],
        repeats=stream["duplicates"],
        unreadable=stream["malformed"],
        missing=stream["missing"],
        highest=stream["highest"],
        gaps=tuple((first, last) for first, last in stream["gaps"]),
        reused=stream["reused"],
    )
