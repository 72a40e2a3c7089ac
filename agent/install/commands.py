"""``dermascan install`` and ``dermascan uninstall``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from agent.install.installing import Installation, Wishes
from agent.install.journal import InstallError, Journal, Outcome, SettingsRefused
from agent.install.removing import Removal

_EXITS: Final = (
    "Exit codes: 0 done, 1 it could not be done (the sentence says what to do; it can be started again), "
    "78 the settings in /etc/dermascan/agent.toml do not fit the release."
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    install = subparsers.add_parser(
        "install",
        help="put the agent on this device, or bring it to another release",
        description="Put the agent on this device: user, folders, software in /opt/dermascan, settings (kept where "
        "there are some), units, start. Again: nothing is done twice. With another release: an upgrade; what was kept "
        f"stays, and a release that does not start gives way to the one before. {_EXITS}",
    )
    install.add_argument(
        "--from", dest="folder", type=Path, metavar="FOLDER", help="the unpacked archive; absent: what is installed"
    )
    install.add_argument("--rollback", action="store_true", help="let the release before run again")
    install.add_argument("--device-id", metavar="ID", help="[device] id of settings that are made now")
    install.add_argument("--clinic-id", metavar="ID", help="[device] clinic_id of settings that are made now")
    install.add_argument("--python", default="/usr/bin/python3", help="the device's Python, 3.10 to 3.13 (%(default)s)")
    install.add_argument(
        "--system-site-packages",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let the agent see the device's own Python packages (default: on a Jetson, for its TensorRT)",
    )
    install.add_argument("--online", action="store_true", help="what the archive lacks may come from the package index")
    install.add_argument("--no-start", action="store_true", help="put everything in place and start nothing")
    install.add_argument("--without-software", action="store_true", help=argparse.SUPPRESS)
    _common(install)
    install.set_defaults(run=run_install)
    uninstall = subparsers.add_parser(
        "uninstall",
        help="take the agent off this device; settings, answers and keys stay",
        description="Take the agent off this device. Settings, answers and keys stay, unless --purge takes them for "
        f"good; the clinic's pictures always stay. {_EXITS}",
    )
    uninstall.add_argument("--purge", action="store_true", help="take settings, keys, database and user away too")
    uninstall.add_argument("--yes", action="store_true", help="with --purge: yes, for good")
    _common(uninstall)
    uninstall.set_defaults(run=run_uninstall)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("/"), help="a root folder instead of this machine")
    parser.add_argument("--json", action="store_true", help="what was done, as one JSON object")


def run_install(arguments: argparse.Namespace) -> int:
    """Install, upgrade or go back."""
    journal = Journal(quiet=arguments.json)

    def work() -> str:
        root = _root(arguments.root)
        wishes = Wishes(
            device_id=arguments.device_id,
            clinic_id=arguments.clinic_id,
            python=arguments.python,
            system_packages=arguments.system_site_packages,
            online=arguments.online,
            start=not arguments.no_start,
            without_software=arguments.without_software,
            dev=root / "dev",
        )
        installation = Installation(root, journal, wishes)
        if arguments.rollback:
            return f"{installation.go_back()} is in use again"
        if arguments.folder is None:
            return f"{installation.fit_anew()} fits its settings, secrets and devices"
        return f"DermaScan Edge {installation.install(arguments.folder.absolute()).id} is installed"

    return _report(journal, work, as_json=arguments.json)


def run_uninstall(arguments: argparse.Namespace) -> int:
    """Uninstall."""
    journal = Journal(quiet=arguments.json)

    def work() -> str:
        removal = Removal(_root(arguments.root), journal)
        if arguments.purge and not arguments.yes:
            unsent = removal.unsent()
            loss = "an unknown number of events that" if unsent is None else f"{unsent} events that"
            raise InstallError(
                f"--purge takes every answer, key and setting away for good, and {loss} the cloud has not yet: "
                "make a backup (dermascan backup), and say --yes"
            )
        removal.uninstall(purge=arguments.purge)
        return "DermaScan Edge is uninstalled"

    return _report(journal, work, as_json=arguments.json)


def _root(root: Path) -> Path:
    if os.geteuid() != 0:
        raise InstallError("only root can do this: start it again with sudo")
    resolved = root.resolve()
    if not resolved.is_dir():
        raise InstallError(f"{root}: is no folder; --root names the root of a system")
    return resolved


def _report(journal: Journal, work: Callable[[], str], *, as_json: bool) -> int:
    error, code, done = None, EXIT_OK, ""
    try:
        done = work()
    except SettingsRefused as refused:
        error, code = str(refused), EXIT_CONFIG
    except InstallError as failed:
        error, code = str(failed), EXIT_FAILED
    except OSError as failed:
        error, code = f"{failed.filename or ''}: {failed.strerror}: mend that, and start again", EXIT_FAILED
    if as_json:
        print(json.dumps({"done": done or None, "error": error, "steps": journal.as_json()}, indent=1))
    elif error is not None:
        print(error, file=sys.stderr)
    else:
        kept = sum(entry.outcome is Outcome.KEPT for entry in journal.entries)
        print(f"{done} ({kept} things were as they should be)." if kept else f"{done}.")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """The two commands alone, for a device that has nothing yet."""
    parser = argparse.ArgumentParser(prog="dermascan")
    register(parser.add_subparsers(metavar="COMMAND", required=True))
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
