"""What people and dermoscopes do during a soak: pictures in every manner, bad ones, doubles, sidecars, verdicts.

Each dermoscope is a thread; it notes what it has written, which is what the books are held against.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.demo.dermoscope import Exposure, Habit, Pace, SimulatedDermoscope
from agent.records.errors import StoreError
from agent.records.reading import list_scans

SIZES: Final = ((800, 600), (1024, 768), (1600, 1200))
MOTIFS: Final = 4
"""Different pictures of each dermoscope; a capture is one of them with other bytes, so that its answer is known."""
VERDICTS: Final = ("melanoma", "melanocytic_nevus", "basal_cell_carcinoma")


@dataclass(frozen=True)
class Written:
    """A capture that lies in a folder, whole."""

    path: Path
    motif: str | None
    """Which picture it shows; None where it is none and must be refused."""
    closed: float
    """Wall clock, seconds since 1970, as this process sees it."""
    manner: str
    patient: str | None = None
    """Of its sidecar."""


@dataclass
class Notes:
    """What was done, by everybody; for several threads."""

    written: dict[str, Written] = field(default_factory=dict)
    """By the sha256 of the content, in hex."""
    again: int = 0
    """Pictures that came once more, under another name, and must not be answered once more."""
    renamed: set[Path] = field(default_factory=set)
    """Pictures that got another name, and so lost their sidecar."""
    sidecars: int = 0
    verdicts: dict[str, str] = field(default_factory=dict)
    """Id to scan, of each that the command said it keeps."""
    not_taken: list[str] = field(default_factory=list)
    """What the command for verdicts said where it refused."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Dermoscope(threading.Thread):
    """Writes captures at random moments until told to end."""

    def __init__(
        self, folder: Path, seed: int, every_s: float, notes: Notes, motifs: int = MOTIFS, *, cut_off: bool = True
    ) -> None:
        """``cut_off``: some pictures are never completed, which takes the agent ten seconds to believe."""
        super().__init__(name=folder.name, daemon=True)
        self._folder, self._rng, self._every_s, self._notes = folder, random.Random(seed), every_s, notes
        self._cuts_off = cut_off
        self._camera = SimulatedDermoscope(folder, seed, pace=Pace(pause_s=0.8))
        self._motifs = [self._camera.expose(SIZES[number % len(SIZES)]) for number in range(motifs)]
        self.at_hand = threading.Lock()
        """Held while it writes: whoever takes the folder away takes it between two captures."""
        self.over = threading.Event()
        self.fault: BaseException | None = None

    @property
    def motifs(self) -> dict[str, Exposure]:
        """By their names."""
        return {self._motif(number): exposure for number, exposure in enumerate(self._motifs)}

    def run(self) -> None:
        """Until the end."""
        try:
            while not self.over.wait(self._rng.expovariate(1.0 / self._every_s)):
                with self.at_hand:
                    self._do_something()
        except BaseException as error:  # noqa: BLE001 - told by who ends us
            self.fault = error

    def stop(self) -> None:
        """End it, and say if it broke down."""
        self.over.set()
        self.join()
        if self.fault is not None:
            raise RuntimeError(f"the simulated {self._folder.name} broke down") from self.fault

    def _motif(self, number: int) -> str:
        return f"{self._folder.name}/{number}"

    def _do_something(self) -> None:
        throw = self._rng.random()
        mine = [written for written in list(self._notes.written.values()) if written.path.parent == self._folder]
        if throw < 0.06:
            shot = self._camera.spoil()
            self._note(shot.sha256, Written(shot.path, None, time.time(), "no picture"))
        elif throw < 0.11 and mine:
            self._copy(self._rng.choice(mine))
        elif throw < 0.15 and mine:
            self._rename(self._rng.choice(mine))
        elif throw < 0.17 and self._cuts_off:
            self._cut_off()
        else:
            self._shoot()

    def _shoot(self) -> None:
        number, habit = self._rng.randrange(len(self._motifs)), self._rng.choice(list(Habit))
        exposure = self._camera.again(self._motifs[number])
        about = {"patient_id": f"P-{self._rng.randrange(1000)}", "age": self._rng.randrange(18, 95)}
        moment = self._rng.random()
        shot = self._camera.write(exposure, habit, sidecar=about if moment < 0.2 else None)
        patient = None if 0.2 <= moment <= 0.9 else str(about["patient_id"])
        self._note(shot.sha256, Written(shot.path, self._motif(number), time.time(), habit.value, patient))
        if moment > 0.9:
            shot.path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
        self._notes.sidecars += patient is not None

    def _cut_off(self) -> None:
        """A writer that died: half a picture for good, which is taken as it is after long stillness."""
        exposure = self._camera.again(self._motifs[0])
        half = exposure.data[: len(exposure.data) // 2]
        path = self._folder / exposure.name
        path.write_bytes(half)
        self._note(hashlib.sha256(half).hexdigest(), Written(path, None, time.time(), "cut off"))

    def _copy(self, old: Written) -> None:
        with suppress(FileNotFoundError):  # it got another name
            data = old.path.read_bytes()
            old.path.with_name(f"COPY_{time.time_ns()}{old.path.suffix}").write_bytes(data)
            self._notes.again += 1

    def _rename(self, old: Written) -> None:
        with suppress(FileNotFoundError):
            os.rename(old.path, old.path.with_name(f"MOVED_{time.time_ns()}{old.path.suffix}"))  # noqa: PTH104
            self._notes.renamed.add(old.path)

    def _note(self, sha256: str, written: Written) -> None:
        with self._notes.lock:
            self._notes.written[sha256] = written


class Clinician(threading.Thread):
    """Gives verdicts with ``dermascan feedback``, whether the agent runs or not."""

    def __init__(self, state: Path, config: Path, seed: int, every_s: float, notes: Notes) -> None:
        super().__init__(name="clinician", daemon=True)
        self._state, self._config, self._every_s, self._notes = state, config, every_s, notes
        self._rng = random.Random(seed)
        self.over = threading.Event()

    def run(self) -> None:
        """Until the end."""
        while not self.over.wait(self._rng.expovariate(1.0 / self._every_s)):
            with suppress(StoreError):  # no database yet, or it is being looked after
                scans = [row.scan_id for row in list_scans(self._state, limit=30) if row.finished_at]
                if scans:
                    self._judge(self._rng.choice(scans))

    def stop(self) -> None:
        """End it."""
        self.over.set()
        self.join()

    def _judge(self, scan_id: str) -> None:
        words = ["feedback", scan_id, "--diagnosis", self._rng.choice(VERDICTS), "--source", "clinician", "--json"]
        command = [sys.executable, "-m", "agent.cli", *words, "--config", str(self._config)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if said.returncode == 0:
            self._notes.verdicts[json.loads(said.stdout)["verdict_id"]] = scan_id
        else:
            self._notes.not_taken.append(" ".join(said.stderr.split())[-300:])
