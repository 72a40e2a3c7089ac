"""A visit at the simulated clinic: picture after picture, each written another way, and each waited for."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.demo.dermoscope import PREFIX, Habit, SimulatedDermoscope, Size
from agent.demo.encode import Format
from agent.demo.table import Announced, Event
from agent.demo.traits import traits_of

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 60.0
BODY_SITES: Final = ("back", "left forearm", "abdomen", "right lower leg", "chest", "left shoulder")
_HABIT_WORDS: Final = {
    Habit.WHOLE: "at once",
    Habit.SLOW: "slowly",
    Habit.PAUSED: "with a pause",
    Habit.RENAME: "by rename",
    Habit.TWICE: "in two goes",
    Habit.REWRITTEN: "twice over",
    Habit.HARD_LINK: "by hard link",
}


@dataclass(frozen=True)
class Step:
    """One picture to take; ``habit`` None stands for a file that is no picture at all."""

    habit: Habit | None
    size: Size = (1024, 768)
    format: Format = Format.JPEG

    @property
    def words(self) -> str:
        """How it is written, for the table."""
        if self.habit is None:
            return "text named .jpg"
        return f"{self.size[0]}x{self.size[1]} {self.format.name}, {_HABIT_WORDS[self.habit]}"


ROUND: Final = (
    Step(Habit.WHOLE),
    Step(Habit.SLOW, (2048, 1536)),
    Step(Habit.RENAME, (1024, 768), Format.PNG),
    Step(None),
    Step(Habit.PAUSED, (1600, 1200)),
    Step(Habit.TWICE, (1024, 768), Format.TIFF),
    Step(Habit.HARD_LINK, (4000, 3000)),
    Step(Habit.REWRITTEN, (1024, 768), Format.BMP),
)
"""Every habit, every format, small to large, and one file that must be rejected."""


def steps(captures: int | None) -> Iterator[Step]:
    """The round, over and over; ends after ``captures`` steps, or never."""
    return itertools.islice(itertools.cycle(ROUND), captures)


class Visit:
    """Takes the pictures on a thread of its own and tells what happens.

    One at a time: the next is rendered when the one before has its answer, so that rendering, which no clinic does,
    takes no processor time from an answer that is being timed.
    """

    def __init__(
        self,
        dermoscope: SimulatedDermoscope,
        tell: Callable[[Event], None],
        stop: threading.Event,
        *,
        captures: int | None,
        gap_s: float,
    ) -> None:
        """``captures`` None goes on until ``stop`` is set; ``gap_s`` lies between an answer and the next picture."""
        self._dermoscope, self._tell, self._stop = dermoscope, tell, stop
        self._captures, self._gap_s = captures, gap_s
        self._ended: set[str] = set()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="visit", daemon=True)
        self.failure: str | None = None
        """What went wrong, once :meth:`over` is True; None where nothing did."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the last picture is answered, or the visit was broken off."""
        return not self._thread.is_alive()

    def ended(self, name: str) -> None:
        """A picture has its answer or rejection; from any thread."""
        with self._news:
            self._ended.add(name)
            self._news.notify_all()

    def join(self) -> None:
        """Wait for the thread, which ends soon after ``stop`` is set."""
        with self._news:
            self._news.notify_all()
        self._thread.join()

    def _run(self) -> None:
        spoilt: list[str] = []
        try:
            for step in steps(self._captures):
                name = self._take(step)
                if step.habit is None:
                    spoilt.append(name)  # intake gives it time to become whole; the next picture need not wait for that
                    continue
                if not self._await(name) or self._stop.wait(self._gap_s):
                    return
            for name in spoilt:
                if not self._await(name):
                    return
        except OSError as error:
            log.exception("the simulated dermoscope cannot write")
            self.failure = f"the simulated dermoscope cannot write: {error}"

    def _take(self, step: Step) -> str:
        if step.habit is None:
            shot = self._dermoscope.spoil()
            self._tell(Announced(shot.path.name, step.words))
        else:
            exposure = self._dermoscope.expose(step.size, step.format)
            self._tell(Announced(exposure.name, step.words))
            number = int(exposure.name[len(PREFIX) :].split(".")[0])
            shot = self._dermoscope.write(exposure, step.habit, sidecar=sidecar_for(number, exposure.seed))
        self._tell(shot)
        return shot.path.name

    def _await(self, name: str) -> bool:
        """Wait for the end of a picture; False where it did not come, or the visit was stopped meanwhile."""
        with self._news:
            if not self._news.wait_for(lambda: name in self._ended or self._stop.is_set(), ANSWER_TIMEOUT_S):
                self.failure = f"{name}: no answer within {ANSWER_TIMEOUT_S:.0f} s"
        return self.failure is None and not self._stop.is_set()


def sidecar_for(number: int, seed: int) -> dict[str, object]:
    """What the clinic's software would put beside the picture, of a patient who does not exist."""
    return {
        "patient_id": f"{PREFIX}PATIENT_{number:05d}",
        "body_site": BODY_SITES[seed % len(BODY_SITES)],
        "age": 25 + seed % 60,
        "sex": "female" if seed % 2 else "male",
        "skin_type": traits_of(seed).skin_type,
    }
