"""``detect``, ``flatfield``, ``fit``, ``verify``: from shots to documents on the shelf."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.chart import Detection, Patches, draw_detection
from calibration.colour import srgb_to_lab
from calibration.commands.desk import Desk, Refused, Which
from calibration.commands.exits import EXIT_FAIL, EXIT_PASS, EXIT_STALE
from calibration.commands.run import Result
from calibration.commands.settings import SettingsError
from calibration.correction.gates import Limits
from calibration.reference_files import read_reference
from calibration.references import ReferenceChart
from calibration.shelf.profile import Profile, load_gain
from calibration.shelf.verification import Verification
from calibration.shelf.writing import put_flat_field, put_profile, put_verification
from calibration.visit.look import Order, detect_each, find
from calibration.visit.pictures import Picture, read_picture, save_picture
from calibration.visit.steps import (
    Who,
    check_flat_field,
    check_second_shot,
    limits_from,
    make_flat_field,
    make_profile,
    make_verification,
)

if TYPE_CHECKING:
    from rich.console import Console


def detect(desk: Desk) -> Result:
    """Find the chart, and show it."""
    pictures, order = read_shots(desk), order_of(desk)
    with progress(desk) as say:
        detections, _ = detect_each(pictures, order, None, say)
    written: list[Path] = []
    out: Path | None = getattr(desk.arguments, "out", None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for picture, detection in zip(pictures, detections, strict=True):
            written.append(out / f"{picture.path.stem}-chart.png")
            save_picture(draw_detection(picture.rgb, detection), written[-1])
    rows = [_detection_data(picture, found) for picture, found in zip(pictures, detections, strict=True)]

    def show(console: Console) -> None:
        from rich.text import Text

        for picture, detection, row in zip(pictures, detections, rows, strict=True):
            title = f"{picture.path}: {detection.kind}, found {row['found_by']}"
            console.print(Text(title, "bold"))
            if console.is_terminal:
                console.print(_raw_grid(detection, order.reference))
            for sentence in row["remarks"]:
                console.print(Text(f"• {sentence}", "yellow"))
        for path in written:
            console.print(Text(f"{path}: the shot with its patches marked"))
        if not written:
            console.print(Text("--out DIR writes the shots with their patches marked", "dim"))

    return Result(EXIT_PASS, {"state": "found", "shots": rows, "written": [str(path) for path in written]}, show)


def flatfield(desk: Desk) -> Result:
    """Make a flat field."""
    scope, operator, made_at = desk.dermoscope, desk.operator, desk.clock.moment()
    with progress(desk) as say:
        pictures = read_shots(desk, say)
        say("measuring the light")
        flat, gain = make_flat_field(pictures, made_at)
    put_flat_field(desk.shelf, scope, flat, gain, operator)

    def show(console: Console) -> None:
        from calibration.commands.screen import next_step

        frames = "1 white frame" if len(flat.frames) == 1 else f"{len(flat.frames)} white frames"
        console.print(
            f"Flat field of {scope} from {frames}: gain [bold]{flat.lowest:.2f}[/] to [bold]{flat.highest:.2f}[/]."
        )
        next_step(console, f"dermascan calibrate fit{desk.options()} SHOT   (of the chart, same setting)")

    return Result(EXIT_PASS, {"state": "made", "dermoscope": scope, "flat_field": flat.model_dump(mode="json")}, show)


def fit(desk: Desk) -> Result:
    """Make a profile."""
    profile = fit_profile(desk)

    def show(console: Console) -> None:
        from calibration.commands.screen import next_step, show_profile

        show_profile(console, profile)
        if profile.outcome == "fail":
            next_step(console, "mend what is said above, shoot the chart again, and fit again")
        else:
            next_step(console, f"take a second shot, then: dermascan calibrate verify{desk.options()} SHOT")

    data = {"state": profile.outcome, "profile": profile.model_dump(mode="json")}
    return Result(EXIT_FAIL if profile.outcome == "fail" else EXIT_PASS, data, show)


def fit_profile(desk: Desk) -> Profile:
    """The profile of the shots that are named, put on the shelf."""
    who, limits, now = who_of(desk), limits_of(desk), desk.clock.moment()
    order = order_of(desk)
    with progress(desk) as say:
        pictures = read_shots(desk, say)
        flat = None if getattr(desk.arguments, "no_flatfield", False) else desk.shelf.flat_field(desk.dermoscope)
        if flat is not None:
            check_flat_field(flat[0], pictures, now)
        look = find(pictures, order, None if flat is None else flat[1], say)
        say("fitting")
        days = desk.settings.max_age_days
        profile, files = make_profile(look, flat, who, now, limits=limits, max_age_days=days)
        put_profile(desk.shelf, profile, files)
    return profile


def verify(desk: Desk) -> Result:
    """Hold a second shot against a profile."""
    profile = desk.chosen_profile(Which.DUE)
    if profile.outcome == "fail" and getattr(desk.arguments, "profile", None) is None:
        raise Refused(
            f"The newest profile, {profile.profile_id}, failed its own fit: fit again, or name another one "
            "(--profile ID)."
        )
    verification = verify_profile(desk, profile)
    now = desk.clock.now()
    stale = now >= profile.expires_at

    def show(console: Console) -> None:
        from rich.text import Text

        from calibration.commands.screen import next_step, show_verification

        show_verification(console, verification)
        if stale:
            expired = f"{profile.profile_id} expired on {profile.expires_at:%d %B %Y}: fit a new profile."
            console.print(Text(expired, "yellow"))
        elif not verification.passed:
            next_step(console, "mend what is said above and shoot again; if it stays, fit a new profile")
        elif not verification.reshot:
            next_step(console, f"dermascan calibrate activate{desk.options()}")

    code = EXIT_FAIL if not verification.passed else EXIT_STALE if stale else EXIT_PASS
    data = {"state": verification.verdict, "stale": stale, "verification": verification.model_dump(mode="json")}
    return Result(code, data, show)


def verify_profile(desk: Desk, profile: Profile) -> Verification:
    """The verification of a profile by the shots that are named, put on the shelf."""
    who, limits, order, now = who_of(desk), limits_of(desk), order_of(desk), desk.clock.moment()
    use = desk.record().active
    commissioning = use.commissioning if use is not None and use.profile_id == profile.profile_id else None
    with progress(desk) as say:
        pictures = read_shots(desk, say)
        check_second_shot(pictures, profile, order)
        gain = load_gain(profile, desk.shelf.profile_folder(profile.dermoscope_id, profile.profile_id))
        look = find(pictures, order, gain, say)
        verification, files = make_verification(look, profile, who, now, commissioning=commissioning, limits=limits)
        put_verification(desk.shelf, verification, files)
    return verification


def who_of(desk: Desk) -> Who:
    """Of whom a document tells."""
    from calibration.commands.desk import software_version

    return Who(desk.dermoscope, desk.operator, desk.illuminant, desk.target_serial, software_version())


def limits_of(desk: Desk) -> Limits:
    """The gates, with those that the settings change. Raises SettingsError."""
    try:
        return limits_from(desk.settings.limits)
    except ValueError as error:
        raise SettingsError(f"[calibration.limits] cannot be used: {error}.") from error


def order_of(desk: Desk) -> Order:
    """Which chart to look for. Raises ReferenceUnreadable."""
    target: Path | None = getattr(desk.arguments, "target", None)
    corners: Sequence[tuple[float, float]] | None = getattr(desk.arguments, "corners", None)
    return Order(
        kind=getattr(desk.arguments, "kind", "auto"),
        corners=None if corners is None else tuple(corners),
        target=None if target is None else read_reference(target),
    )


def read_shots(desk: Desk, say: Callable[[str], None] = lambda _text: None) -> list[Picture]:
    """The pictures that the command line names. Raises PictureError, Refused."""
    pictures: list[Picture] = []
    for path in desk.arguments.shots:
        say(f"reading {path.name}")
        pictures.append(read_picture(path))
        twin = next((earlier for earlier in pictures[:-1] if earlier.sha256 == pictures[-1].sha256), None)
        if twin is not None:
            raise Refused(f"{path} and {twin.path} are the same picture; name each shot once.")
    return pictures


@contextmanager
def progress(desk: Desk) -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr where that is a terminal."""
    if desk.json or not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _detection_data(picture: Picture, detection: Detection) -> dict[str, Any]:
    from calibration.visit.look import FOUND_BY

    patches = detection.patches
    return {
        "file": str(picture.path),
        "chart": detection.kind,
        "found_by": FOUND_BY[detection.how],
        "patches": len(patches.names),
        "turned": detection.turned,
        "corners": [[round(float(value), 1) for value in corner] for corner in detection.corners],
        "remarks": _remarks(patches),
    }


def _remarks(patches: Patches) -> list[str]:
    names = np.array(patches.names)
    remarks = []
    for flags, what, remedy in (
        (patches.clipped, "reached the camera's white", "lower the exposure"),
        (patches.crushed, "fell to the camera's black", "raise the exposure"),
    ):
        if flags.any():
            remarks.append(f"{', '.join(names[flags])}: {what}; {remedy}.")
    return remarks


def _raw_grid(detection: Detection, reference: ReferenceChart) -> Any:
    from calibration.commands.screen import colour_grid

    index = {name: place for place, name in enumerate(reference.patch_names)}
    lab = srgb_to_lab(detection.patches.rgb)
    cells = {
        index[name]: (reference.lab_d50[index[name]].tolist(), raw.tolist(), None)
        for name, raw in zip(detection.patches.names, lab, strict=True)
    }
    caption = "each patch: the chart's own colour, below it what the camera gives"
    return colour_grid(cells, (reference.rows, reference.columns), caption)
