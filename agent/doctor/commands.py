"""``dermascan doctor`` and ``dermascan support-bundle``."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from agent.doctor.examination import Examination, Progress, examine
from agent.exits import EXIT_FAILED, EXIT_OK

EXIT_WARNING: Final = 1
EXIT_TROUBLE: Final = 2
_SYSTEM_CONFIG: Final = Path("/etc/dermascan/agent.toml")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    doctor_ = subparsers.add_parser(
        "doctor",
        help="what is wrong with this device, and what to do",
        description="Looks at everything that an answer depends on, and says what is wrong, why it matters and what "
        "to do. The agent may run or not. It changes nothing, unless --fix is given: then it takes away rights that "
        "others should not have, makes missing folders, removes its own leftovers, and says what it did. Run it as "
        "root (sudo), or some things cannot be looked at.",
        epilog=f"exit status: {EXIT_OK} all is well, {EXIT_WARNING} a warning, {EXIT_TROUBLE} something failed",
    )
    doctor_.add_argument("--fix", action="store_true", help="mend what is safe to mend")
    doctor_.add_argument("--json", action="store_true", help="one JSON object")
    doctor_.add_argument(
        "--check", action="append", default=[], metavar="NAME", help="only this check; may be given several times"
    )
    doctor_.add_argument("--list", action="store_true", help="show the checks, and what each looks at")
    doctor_.set_defaults(run=lambda arguments: doctor(arguments, doctor_))
    bundle = subparsers.add_parser(
        "support-bundle",
        help="pack what a supporter needs to see, without patients and secrets",
        description="Packs what the doctor finds, the settings, versions, figures and the service's log into one file "
        "that only you can read. Passwords, keys, tokens, patients and file names of captures are left out, and "
        "looked for in everything that is packed.",
        epilog=f"exit status: {EXIT_OK} written, {EXIT_FAILED} it could not be written, or something that must stay "
        "here was found in it",
    )
    bundle.add_argument("--to", type=Path, metavar="FILE", help="where to (default: dermascan-support-….tar.gz here)")
    bundle.add_argument("--json", action="store_true", help="one JSON object that names the file and what is in it")
    bundle.set_defaults(run=support_bundle)
    for parser in (doctor_, bundle):
        parser.add_argument(
            "--config",
            type=Path,
            default=_usual_config(),
            metavar="FILE",
            help="the agent's settings (%(default)s)",
        )


def _usual_config() -> Path:
    """The settings of this folder, else the installed ones: who is in need should not have to look for a file."""
    here = Path("agent.toml")
    return _SYSTEM_CONFIG if not here.exists() and _SYSTEM_CONFIG.exists() else here


def doctor(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Look, mend where that is asked for, and tell; returns the exit code."""
    if arguments.list:
        return _list(as_json=arguments.json)
    if arguments.check and (unknown := set(arguments.check) - set(_names())):
        parser.error(f"there is no check {', '.join(sorted(unknown))}: dermascan doctor --list names them")
    plain = arguments.json or not sys.stdout.isatty()
    mended: list[str] = []
    examination = _examine(arguments, quiet=plain)
    if arguments.fix and (mended := _mend(examination, arguments.config)):
        examination = _examine(arguments, quiet=plain)
    _tell(examination, mended, as_json=arguments.json, plain=plain)
    return examination.exit_code


def _examine(arguments: argparse.Namespace, *, quiet: bool) -> Examination:
    waiting: Any = nullcontext(lambda _done, _of: None)
    if not quiet:
        from rich.console import Console

        from agent.doctor.screen import progress

        waiting = progress(Console())
    with waiting as tell:
        progress_: Progress = tell
        return examine(arguments.config, arguments.check, progress=progress_)


def _mend(examination: Examination, config: Path) -> list[str]:
    """What was done, and what was not and why."""
    from agent.doctor.mending import NotMended, mend
    from agent.doctor.place import open_place

    user, told = open_place(config).user, []
    for what in dict.fromkeys(finding.mend for finding in examination.findings if finding.mend is not None):
        try:
            told.append(mend(what, user))
        except NotMended as error:
            told.append(f"not mended: {error}.")
    return told


def _tell(examination: Examination, mended: list[str], *, as_json: bool, plain: bool) -> None:
    from agent.doctor import report

    if as_json:
        print(json.dumps(report.as_json(examination, mended), ensure_ascii=False))
    elif plain:
        print("\n".join(report.lines(examination, mended)))
    else:
        from rich.console import Console

        from agent.doctor.screen import show

        show(examination, mended, Console())


def _names() -> list[str]:
    from agent.doctor.checks import CHECKS

    return [check.name for check in CHECKS]


def _list(*, as_json: bool) -> int:
    from agent.doctor.checks import CHECKS

    for check in CHECKS:
        if as_json:
            told = {"name": check.name, "title": check.title, "looks_at": check.looks_at, "why": check.why}
            print(json.dumps(told))
        else:
            print(f"{check.name:14} {check.title}: {check.looks_at}.")
    return EXIT_OK


def support_bundle(arguments: argparse.Namespace) -> int:
    """Pack it; returns the exit code."""
    from agent.doctor.support.packing import CannotPack, pack

    try:
        packed = pack(arguments.config, arguments.to)
    except (CannotPack, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        told = {"file": str(packed.path), "bytes": packed.bytes, "content": packed.names, "removed": packed.removed}
        print(json.dumps(told))
        return EXIT_OK
    print(f"{packed.path} ({packed.bytes / 1024:.0f} KB), readable for you alone. It holds:")
    for name in packed.names:
        print(f"  {name}")
    print("Passwords, keys, tokens, patients and names of captures are not in it. Look into it before you send it.")
    return EXIT_OK
