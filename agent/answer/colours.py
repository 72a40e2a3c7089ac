"""A capture's true colours: which profile corrects it, what that profile is worth, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.answer import texts
from agent.answer.scan import Calibration, CalibrationState
from agent.intake.reasons import Reason, refuse
from calibration.correction.apply import Corrector, Region
from calibration.shelf.files import ShelfError
from calibration.shelf.reading import Shelf
from calibration.shelf.standing import ActiveProfile, Standing, State
from engines.preprocess import centre_square

RGB = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Colours:
    """How one dermoscope's captures are corrected now."""

    calibration: Calibration
    warnings: tuple[str, ...]
    corrector: Corrector | None = None

    def correct(self, small: RGB, shape: tuple[int, int]) -> RGB:
        """Correct the square that the network will see, after it was shrunk.

        Args:
            small: ``[S, S, 3]`` uint8 RGB: the centred square of the picture.
            shape: height and width of the picture it was cut from, in pixels.
        """
        return small if self.corrector is None else self.corrector.small(small, square_region(*shape))


class ColourSource(Protocol):
    """Where an analysis gets its colours from."""

    def __call__(self, dermoscope_id: str, shape: tuple[int, int]) -> Colours:
        """How a picture of this dermoscope, of this height and width, is corrected; raises Rejection."""


UNCALIBRATED: Final = Colours(Calibration(profile_id=None, state=CalibrationState.NONE), (texts.NOT_CALIBRATED,))


def uncalibrated(dermoscope_id: str, shape: tuple[int, int]) -> Colours:  # noqa: ARG001 - a ColourSource
    """The colours of pictures outside a configured device: as they are, and the answer says so."""
    return UNCALIBRATED


def square_region(height: int, width: int) -> Region:
    """Which part of a picture its centred square is: top, left, height and width as fractions."""
    rows, columns = centre_square(height, width)
    side = rows.stop - rows.start
    return rows.start / height, columns.start / width, side / height, side / width


class ShelfColours:
    """Colours from the shelf's profiles. A profile activated meanwhile is used from the next capture on."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        require: bool,
        clock: Callable[[], datetime],
        clock_trusted: Callable[[], bool],
        drift: Callable[[str], tuple[str, ...]] = lambda _: (),
    ) -> None:
        """Take profiles from a shelf.

        Args:
            shelf: where the technician's commands put them.
            require: refuse captures of dermoscopes without a valid profile.
            clock: wall time with its zone.
            clock_trusted: whether it can be right.
            drift: what is to be said of a dermoscope's colours since its calibration.
        """
        self._drift = drift
        self._shelf, self._require = shelf, require
        self._clock, self._clock_trusted = clock, clock_trusted

    def __call__(self, dermoscope_id: str, shape: tuple[int, int]) -> Colours:
        """How a picture is corrected.

        Raises:
            Rejection: the configuration asks for a valid profile, and there is none for this picture.
        """
        active, standing = self._look(dermoscope_id)
        if active is not None and not active.corrector.fits(*shape):
            size = active.corrector.gain.size if active.corrector.gain else shape
            sentence = texts.other_shape(shape, size)
            standing, active = Standing(State.NONE, sentences=(sentence,)), None
        if self._require and standing.state is not State.VALID:
            raise refuse(Reason.NOT_CALIBRATED, why=" ".join(standing.sentences or (texts.NOT_CALIBRATED,)))
        if active is None:
            return Colours(UNCALIBRATED.calibration, (texts.NOT_CALIBRATED, *standing.sentences))
        about = Calibration(
            profile_id=standing.profile_id, state=CalibrationState(standing.state.value), age_days=standing.age_days
        )
        return Colours(about, (*standing.sentences, *self._drift(dermoscope_id)), active.corrector)

    def _look(self, dermoscope_id: str) -> tuple[ActiveProfile | None, Standing]:
        now, trusted = self._clock(), self._clock_trusted()
        try:
            active = self._shelf.active(dermoscope_id)
        except (ShelfError, OSError) as error:
            return None, Standing(State.NONE, sentences=(str(error),))
        if active is None:
            return None, Standing(State.NONE)
        return active, active.standing(now, trusted)
