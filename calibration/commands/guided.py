"""``dermascan calibrate`` without a verb: the whole visit, step by step, in plain words."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from calibration.commands import measure
from calibration.commands.desk import OWN_LIGHT, Desk, Refused
from calibration.commands.exits import EXIT_FAIL, EXIT_PASS
from calibration.commands.give import write_report
from calibration.commands.parser import corner
from calibration.commands.run import FAILURES, Result, explain, open_console
from calibration.commands.screen import panel, show_profile, show_verification, verdict
from calibration.shelf import writing as keep
from calibration.shelf.profile import Profile

if TYPE_CHECKING:
    from rich.console import Console

PICTURES: Final = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
STEPS: Final = 5
_Given = TypeVar("_Given")
_FILES: Final = (
    "Give the files (names with blanks in quotes), or a number for that many of the newest pictures in the "
    "dermoscope's "
    "folder."
)


class Quit(Exception):
    """The technician wants to stop here."""


@dataclass(frozen=True)
class Talk:
    """The conversation with the technician."""

    console: Console
    listen: Callable[[], str]

    def ask(self, question: str, default: str | None = None) -> str:
        """An answer, or the default for an empty one. Raises Quit."""
        hint = f" [dim](Enter: {default})[/]" if default else ""
        while True:
            self.console.print(f"[bold cyan]?[/] {question}{hint} ", end="", soft_wrap=True)
            try:
                answer = self.listen().strip()
            except (EOFError, KeyboardInterrupt, OSError):
                raise Quit from None
            if answer.lower() in {"q", "quit", "exit"}:
                raise Quit
            if answer or default is not None:
                return answer or str(default)

    def agrees(self, question: str) -> bool:
        """Yes (the default) or no."""
        return self.ask(f"{question} (yes/no)", "yes").lower() in {"y", "yes"}

    def step(self, number: int, title: str, body: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.print(panel(f"{number} of {STEPS}  {title}", body))

    def complain(self, error: BaseException) -> None:
        """Say what went wrong."""
        from rich.text import Text

        self.console.print(Text(f"✗ {explain(error)[1]}", "red"))


def _line() -> str:
    return input()


def guided(desk: Desk) -> Result:
    """Lead through the visit."""
    if desk.json:
        raise Refused("The guided visit talks to a person; a program uses the verbs (dermascan calibrate --help).")
    talk = Talk(open_console(), _line)
    try:
        code = lead(desk, talk)
    except Quit:
        talk.console.print()
        talk.console.print(
            "Stopped. What was measured is kept; nothing else was changed. See: dermascan calibrate history"
        )
        code = EXIT_FAIL
    return Result(code, {}, lambda _console: None)


def lead(desk: Desk, talk: Talk) -> int:
    """The visit; returns the exit code. Raises Quit, SettingsError, Refused."""
    desk.clock.moment()  # a clock in 1970 is better known now than after the pictures
    talk.console.print("[bold]Colour calibration of a dermoscope[/]   about ten minutes; q stops at any question")
    talk.step(
        1,
        "Who and what",
        "You need the colour chart, something evenly white (a white card), and a clean lens. Fix the "
        "dermoscope's exposure "
        "and white balance: they must stay the same through the visit, and afterwards.",
    )
    desk = _introduced(desk, talk)

    talk.step(
        2,
        "Even light",
        "Lay the white card where skin would be and take one to three pictures of it that nothing but the card is in. "
        f"White should not be burnt out. {_FILES} Enter 'none' to go on without.",
    )
    has_flat = _until_it_works(talk, lambda: _flat_field(desk, talk))

    talk.step(
        3,
        "The chart",
        "Lay the chart flat under the dermoscope and take a picture that shows all of it, or several that show "
        "a part each. "
        f"{_FILES}",
    )
    profile = _until_it_works(talk, lambda: _fit(desk, talk, flat=has_flat))

    talk.step(
        4,
        "A second shot",
        f"Lift the dermoscope, put it down again, and take a second picture of the chart in the same way. {_FILES}",
    )
    _until_it_works(talk, lambda: _verify(desk, talk, profile))

    talk.step(
        5,
        "Use and report",
        f"{profile.profile_id} has passed. Put into use, it corrects every capture from the next on.",
    )
    return _finish(desk, talk, profile)


def _finish(desk: Desk, talk: Talk, profile: Profile) -> int:
    activated = talk.agrees(f"Put it into use for {desk.dermoscope} now?")
    if activated:
        keep.activate(desk.shelf, profile, desk.operator, desk.clock.moment())
        talk.console.print(f"{profile.profile_id} is in use until {profile.expires_at:%d %B %Y}.")
    path = Path(f"calibration-{desk.dermoscope}-{profile.profile_id}.html")
    write_report(desk, profile, path)
    talk.console.print(f"{path}: the report; open it in a browser, print it and sign it.")
    if not activated:
        talk.console.print(f"Put it into use later with: dermascan calibrate activate{desk.options()}")
    return EXIT_PASS if activated else EXIT_FAIL


def _introduced(desk: Desk, talk: Talk) -> Desk:
    """The desk with dermoscope, operator, chart and light known."""
    known, named = desk.known, getattr(desk.arguments, "dermoscope", None)
    if named is None:
        named = known[0] if len(known) == 1 else talk.ask(f"Which dermoscope ({', '.join(known) or 'its id'})?")
    operator = getattr(desk.arguments, "operator", None) or talk.ask("Your name?")
    serial = desk.target_serial or talk.ask("Serial number of the chart?", "not given")
    light = getattr(desk.arguments, "illuminant", None) or talk.ask("In which light?", OWN_LIGHT)
    given = {
        "dermoscope": named,
        "operator": operator,
        "target_serial": None if serial == "not given" else serial,
        "illuminant": light,
    }
    introduced = _with(desk, **given)
    talk.console.print(f"Dermoscope [bold]{introduced.dermoscope}[/], by {introduced.operator}.")
    return introduced


def _with(desk: Desk, **arguments: object) -> Desk:
    return Desk(argparse.Namespace(**{**vars(desk.arguments), **arguments}), desk.clock)


def _until_it_works(talk: Talk, attempt: Callable[[], _Given | None]) -> _Given:
    """Try a step until it gives something; what a person can mend is said, and asked for again."""
    while True:
        try:
            given = attempt()
        except FAILURES as error:
            talk.complain(error)
            continue
        if given is not None:
            return given


def _flat_field(desk: Desk, talk: Talk) -> bool:
    """Whether there is one."""
    shots = _shots(desk, talk, "White frames?", none=True)
    if not shots:
        return False
    result = measure.flatfield(_with(desk, shots=shots))
    flat = result.data["flat_field"]
    talk.console.print(f"✓ light measured: gain {flat['lowest']:.2f} to {flat['highest']:.2f}")
    return True


def _fit(desk: Desk, talk: Talk, *, flat: bool) -> Profile | None:
    shots = _shots(desk, talk, "Shots of the chart?")
    named = {"shots": shots, "no_flatfield": not flat, "kind": "auto", "target": None, "corners": None}
    from calibration.chart import ChartNotFound

    try:
        profile = measure.fit_profile(_with(desk, **named))
    except ChartNotFound as error:
        talk.complain(error)
        corners = _corners(talk) if len(shots) == 1 else None
        if corners is None:
            return None
        profile = measure.fit_profile(_with(desk, **{**named, "corners": corners}))
    show_profile(talk.console, profile)
    if profile.outcome == "fail":
        talk.console.print("Mend what is said above and shoot the chart again.")
        return None
    if profile.outcome == "marginal" and not talk.agrees("Go on with this marginal result?"):
        return None
    return profile


def _verify(desk: Desk, talk: Talk, profile: Profile) -> bool | None:
    shots = _shots(desk, talk, "Second shot?")
    named = {"shots": shots, "kind": "auto", "target": None, "corners": None}
    verification = measure.verify_profile(_with(desk, **named), profile)
    show_verification(talk.console, verification)
    if verification.passed:
        return True
    talk.console.print(verdict(verification.verdict), "Shoot again, or stop (q) and fit anew.")
    return None


def _corners(talk: Talk) -> tuple[tuple[float, float], ...] | None:
    """The four corners, where the technician wants to give them."""
    answer = talk.ask("Its four corners as X,Y X,Y X,Y X,Y in pixels, or Enter for another shot?", "another shot")
    try:
        corners = tuple(corner(word) for word in answer.split())
    except argparse.ArgumentTypeError:
        return None
    return corners if len(corners) == 4 else None


def _shots(desk: Desk, talk: Talk, question: str, *, none: bool = False) -> list[Path]:
    """Files that the technician names; an empty list for 'none'. Raises Refused."""
    answer = talk.ask(question)
    if none and answer.lower() in {"none", "no", "skip"}:
        return []
    if answer.isdecimal():
        return _newest(desk, int(answer))
    try:
        words = shlex.split(answer)
    except ValueError:
        raise Refused(f"{answer}: a quotation mark is missing.") from None
    return [found for word in words for found in _expanded(word)]


def _expanded(word: str) -> Sequence[Path]:
    path = Path(word).expanduser()
    if any(sign in path.name for sign in "*?") and not path.exists():
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise Refused(f"{word}: fits no file; look at the name again.")
        return found
    return [path]


def _newest(desk: Desk, count: int) -> list[Path]:
    folder = desk.settings.dermoscopes.get(desk.dermoscope)
    if folder is None or not folder.is_dir():
        raise Refused("The dermoscope's folder is not known here; give the names of the files.")
    pictures = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file()]
    newest = sorted(pictures, key=lambda path: path.stat().st_mtime_ns)[-count:] if count else []
    if len(newest) < max(count, 1):
        raise Refused(
            f"{folder}: holds {len(pictures)} pictures; take the picture first, or give the names of the files."
        )
    return newest
