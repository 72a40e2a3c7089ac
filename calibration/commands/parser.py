"""The parser of ``dermascan calibrate``: its verbs and their options. What a verb needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, TypeAlias

from calibration.commands.exits import EPILOG

CHART_KINDS: Final = ("auto", "classic", "passport", "mini", "nano", "tile")
_Group: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - has no public name


def add_group(subparsers: _Group) -> None:
    """Add the group with every verb; without a verb it is the guided visit."""
    group = subparsers.add_parser(
        "calibrate",
        help="measure and correct a dermoscope's colours with a chart",
        description="A technician's visit: white frames, a colour chart, a profile, a second shot, an activated "
        "profile, "
        "a report to sign. Without a verb it leads through all of it. The agent may run meanwhile; it uses an "
        "activated "
        "profile from its next capture on.",
        epilog=EPILOG,
        parents=[_common()],
    )
    group.set_defaults(run=_lazily("guided", "guided"))
    verbs = group.add_subparsers(metavar="VERB")
    _add_measuring(verbs)
    _add_keeping(verbs)
    _add_giving(verbs)


def _add_measuring(verbs: _Group) -> None:
    detect = _add(verbs, "detect", "measure", "find the chart in a shot and show what was found")
    _shots(detect, "a shot of the chart")
    _chart_options(detect)
    detect.add_argument("--out", type=Path, metavar="DIR", help="write each shot with its patches marked into DIR")

    flat = _add(verbs, "flatfield", "measure", "even out the light, from one or several white frames")
    _shots(flat, "a shot of something evenly white or grey that fills the field")

    fit = _add(verbs, "fit", "measure", "make a profile from one or several shots of the chart")
    _shots(fit, "a shot of the chart, or several that show a part each")
    _chart_options(fit)
    fit.add_argument("--no-flatfield", action="store_true", help="fit without the flat field")

    verify = _add(verbs, "verify", "measure", "hold a second shot of the chart against a profile")
    _shots(verify, "a shot of the chart that was not fitted from")
    _chart_options(verify)
    _profile_option(verify, "the newest, or the one in use where that is newer")


def _add_keeping(verbs: _Group) -> None:
    activate = _add(verbs, "activate", "keep", "put a verified profile into use")
    _profile_option(activate, "the newest")
    activate.add_argument(
        "--override", action="store_true", help="although it has not passed; needs --reason and --name, both recorded"
    )
    activate.add_argument("--reason", metavar="TEXT", help="why")
    activate.add_argument("--name", metavar="NAME", help="who answers for it")

    _add(verbs, "status", "keep", "which profile is in use, how old it is, and whether it holds")
    _add(verbs, "history", "keep", "everything that was done")
    rollback = _add(verbs, "rollback", "keep", "go back to the profile that was in use before")
    rollback.add_argument("--reason", metavar="TEXT", help="why; recorded")


def _add_giving(verbs: _Group) -> None:
    report = _add(verbs, "report", "give", "write the report that a technician prints and signs")
    _profile_option(report, "the newest")
    report.add_argument(
        "--out", type=Path, metavar="FILE", help="the HTML file (calibration-DERMOSCOPE-PROFILE.html here)"
    )

    apply = _add(verbs, "apply", "give", "correct pictures with the profile in use")
    apply.add_argument("shots", metavar="PICTURE", nargs="+", type=Path, help="a picture of this dermoscope")
    apply.add_argument("--out", type=Path, metavar="DIR", required=True, help="where the corrected copies go")
    _profile_option(apply, "the one in use")

    icc = _add(verbs, "export-icc", "give", "write the profile as an ICC file for other programs")
    icc.add_argument("--out", type=Path, metavar="FILE", required=True, help="the .icc file")
    _profile_option(icc, "the one in use")


def _add(verbs: _Group, name: str, module: str, what: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=EPILOG, parents=[_common()]
    )
    parser.set_defaults(run=_lazily(module, name.replace("-", "_")))
    return parser


def _common() -> argparse.ArgumentParser:
    """Options of every verb. Absent ones stay absent, so that a verb does not undo what stood before it."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("the visit")
    group.add_argument("--dermoscope", metavar="ID", help="which dermoscope (needed where the settings name several)")
    group.add_argument("--operator", metavar="NAME", help="who does it; goes into profile, history and report")
    group.add_argument("--target-serial", metavar="S", help="the chart's serial number")
    group.add_argument(
        "--illuminant", metavar="TEXT", help='the light it was shot in ("the dermoscope\'s own light", polarised, …)'
    )
    group.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="the agent's settings (agent.toml here, or in /etc/dermascan)"
    )
    group.add_argument("--state-dir", type=Path, metavar="DIR", help="the agent's state folder, instead of --config")
    return parser


def _shots(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("shots", metavar="SHOT", nargs="+", type=Path, help=what)


def _chart_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=CHART_KINDS, default="auto", help="which chart it is (%(default)s)")
    parser.add_argument(
        "--corners",
        nargs=4,
        type=corner,
        metavar="X,Y",
        help="where the chart's four corners lie in the shot, in pixels, from its dark-skin corner clockwise, "
        "where it is not found by itself",
    )
    parser.add_argument(
        "--target", type=Path, metavar="FILE", help="the colours of a vendor's own target (JSON or CGATS), in Lab D50"
    )


def _profile_option(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--profile", metavar="ID", help=f"which profile, by its id or the id's beginning ({default})")


def corner(text: str) -> tuple[float, float]:
    """``120,40`` as a point."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no corner; write it as X,Y, for example 120,40") from None
    return x, y


def _lazily(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from calibration.commands.run import run_verb

        return run_verb(getattr(import_module(f"calibration.commands.{module}"), name), arguments)

    return run
