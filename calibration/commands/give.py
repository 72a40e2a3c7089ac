"""``report``, ``apply``, ``export-icc``: what a profile gives to people and to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calibration.commands.desk import Desk, Refused, Which
from calibration.commands.exits import EXIT_PASS, EXIT_STALE
from calibration.commands.run import Result
from calibration.shelf.files import write_atomically
from calibration.shelf.profile import Profile
from calibration.shelf.standing import State
from calibration.visit.pictures import read_picture, save_picture
from calibration.visit.report import render
from calibration.visit.report_content import gather

if TYPE_CHECKING:
    from rich.console import Console

_WRITABLE = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


def report(desk: Desk) -> Result:
    """Write the report."""
    profile = desk.chosen_profile()
    path: Path = getattr(desk.arguments, "out", None) or Path(
        f"calibration-{desk.dermoscope}-{profile.profile_id}.html"
    )
    write_report(desk, profile, path)

    def show(console: Console) -> None:
        console.print(f"{path}: the report of {profile.profile_id}; open it in a browser, print it and sign it.")

    return Result(EXIT_PASS, {"report": str(path), "profile_id": profile.profile_id}, show)


def write_report(desk: Desk, profile: Profile, path: Path) -> None:
    """Write a profile's report to a file. Raises OSError, ShelfError, Refused."""
    if path.is_dir():
        raise Refused(f"{path}: is a folder; name the file to write, for example {path}/report.html.")
    page = render(gather(desk.shelf, profile, desk.clock.now()))
    write_atomically(path.absolute(), page.encode(), 0o644)  # for whoever prints it; it holds nothing of a patient


def apply(desk: Desk) -> Result:
    """Correct copies of pictures."""
    profile = desk.chosen_profile(Which.IN_USE)
    corrector = desk.shelf.corrector(profile)
    out: Path = desk.arguments.out
    shots: list[Path] = desk.arguments.shots
    _check_targets(shots, out)
    out.mkdir(parents=True, exist_ok=True)
    standing = desk.shelf.standing(desk.dermoscope, desk.clock.now(), desk.clock.trusted())
    stale = standing.profile_id == profile.profile_id and standing.state is not State.VALID
    written = []
    for shot in shots:
        picture = read_picture(shot)
        if not profile.fits(*picture.size):
            width, height = profile.size
            raise Refused(
                f"{shot}: is {picture.size[0]}×{picture.size[1]}, of another shape than the {width}×{height} "
                "pictures the "
                "profile was made from; set the camera as it was then, or fit a profile for this setting."
            )
        target = out / shot.name
        save_picture(corrector.full(picture.rgb), target)
        written.append(target)

    def show(console: Console) -> None:
        from rich.text import Text

        for shot, target in zip(shots, written, strict=True):
            console.print(Text(f"{shot} → {target}"))
        for sentence in standing.sentences if stale else ():
            console.print(Text(sentence, "yellow"))

    data = {"profile_id": profile.profile_id, "written": [str(path) for path in written]}
    return Result(EXIT_STALE if stale else EXIT_PASS, {**data, "sentences": list(standing.sentences)}, show)


def _check_targets(shots: list[Path], out: Path) -> None:
    """Before anything is written: nothing of the technician's may be written over."""
    taken: dict[str, Path] = {}
    for shot in shots:
        if (first := taken.setdefault(shot.name, shot)) != shot:
            raise Refused(f"{shot} and {first} have the same name; correct them into two folders.")
        if shot.suffix.lower() not in _WRITABLE:
            raise Refused(
                f"{shot}: a copy can be written as {', '.join(sorted(_WRITABLE))}; rename or convert it first."
            )
        if (out / shot.name).exists():
            raise Refused(
                f"{out / shot.name}: is there already and is not written over; name another folder (--out DIR)."
            )


def export_icc(desk: Desk) -> Result:
    """Write an ICC profile."""
    from calibration.correction.icc import export_icc as write_icc

    profile = desk.chosen_profile(Which.IN_USE)
    path: Path = desk.arguments.out
    if path.is_dir():
        raise Refused(f"{path}: is a folder; name the file to write, for example {path}/{desk.dermoscope}.icc.")
    title = f"DermaScan {desk.dermoscope} {profile.profile_id}"
    write_icc(profile.colour_model, path, description=title, made_at=profile.created_at)
    left_out = (
        " The evenness of the light is not in it: no ICC profile can carry a gain map." if profile.flat_field else ""
    )

    def show(console: Console) -> None:
        console.print(f"{path}: the colours of {profile.profile_id} as an ICC profile.{left_out}")

    return Result(EXIT_PASS, {"icc": str(path), "profile_id": profile.profile_id}, show)
