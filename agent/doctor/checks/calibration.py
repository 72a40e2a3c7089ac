"""The dermoscopes' calibrations: whether each has a colour profile that holds, and how long it still does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from agent.doctor.finding import Check, Finding, failed, ok, warning
from agent.doctor.place import Place
from calibration.shelf.files import ShelfError
from calibration.shelf.reading import FOLDER, Shelf
from calibration.shelf.standing import State

SOON: Final = timedelta(days=7)


def look(place: Place) -> Iterator[Finding]:
    """What each capture would be told of its colours now."""
    shelf, required = Shelf(place.state_dir / FOLDER), place.config.calibration.require
    bad = failed if required else warning
    cost = "its captures are refused" if required else "its answers carry a warning"
    for scope in place.config.dermoscopes:
        standing = shelf.standing(scope.id, place.now(), place.clock_trusted)
        visit = f"calibrate it: dermascan calibrate --dermoscope {scope.id}"
        if standing.state is not State.VALID:
            what = " ".join(standing.sentences) or "It is not known why."
            yield bad(f"{scope.id} has no colours that hold, so {cost}. {what}", visit)
        elif (soon := _ends_soon(place, shelf, scope.id)) is not None:
            yield warning(f"The colour profile of {scope.id} ends in {soon} days.", visit)
        elif standing.sentences:
            yield warning(f"{scope.id}: {' '.join(standing.sentences)}", visit)
        else:
            age = "" if standing.age_days is None else f", {standing.age_days:.0f} days old"
            yield ok(f"The colours of {scope.id} hold (profile {standing.profile_id}{age}).")


def _ends_soon(place: Place, shelf: Shelf, dermoscope_id: str) -> int | None:
    if not place.clock_trusted:
        return None
    try:
        active = shelf.active(dermoscope_id)
    except ShelfError:
        return None
    left = active.profile.expires_at - place.now() if active is not None else SOON
    return left.days if left < SOON else None


CHECK = Check(
    name="calibration",
    title="Calibration",
    looks_at="each dermoscope's colour profile: its seal, its age, what the last verification said",
    why="Colours drift; the answers rest on colours that are true.",
    look=look,
)
