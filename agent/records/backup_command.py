"""``dermascan backup`` and ``dermascan restore``: a copy of the records, and taking one into use."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records.errors import StoreError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan backup`` and ``dermascan restore``."""
    parser = subparsers.add_parser(
        "backup",
        help="copy the database, while the agent runs",
        description="Copies the database while the agent runs or not, checks the copy, and keeps the newest ones. "
        "Copies lie in state_dir/backups unless another folder is named; a backup is one only in another place. "
        "Copies that were made before a patient was erased go with the next one.",
        epilog=f"exit status: {EXIT_OK} there is a copy, which is sound; {EXIT_FAILED} there is none, and why; 78 "
        "wrong configuration",
    )
    _config(parser)
    parser.add_argument("--to", type=Path, metavar="DIR", help="where copies are kept")
    parser.add_argument("--keep", type=_at_least_one, default=7, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object that says what the copy is")
    parser.set_defaults(run=backup)
    parser = subparsers.add_parser(
        "restore",
        help="take a copy of the database into use, while the agent does not run",
        description="Takes a copy that 'dermascan backup' made into use. The agent must not run. The present database "
        "is moved to state_dir/replaced and not deleted. Pictures that were answered since the copy was made are found "
        "in their folders and become the same scans again; events that the cloud has already are sent once more, and "
        "it knows them. Verdicts that were given since are in the moved database, and in the cloud.",
        epilog=f"exit status: {EXIT_OK} the copy is in use; {EXIT_FAILED} nothing was changed, and why; 78 wrong "
        "configuration",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the copy: dermascan-<number>.db")
    _config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object that says what came of it")
    parser.set_defaults(run=restore)


def backup(arguments: argparse.Namespace) -> int:
    """Make a copy; returns the exit code."""
    from agent.config import load_config
    from agent.records.keeping.backup import BACKUPS
    from agent.records.keeping.backup import backup as make

    state_dir = load_config(arguments.config).device.state_dir
    progress = _Progress(shown=sys.stderr.isatty() and not arguments.json)
    try:
        path, made, gone = make(state_dir, arguments.to or state_dir / BACKUPS, arguments.keep, progress.tell)
    except (StoreError, OSError) as error:
        progress.end()
        print(error, file=sys.stderr)
        return EXIT_FAILED
    progress.end()
    if arguments.json:
        print(json.dumps({"path": str(path), "removed": [str(one) for one in gone], **asdict(made)}))
        return EXIT_OK
    counts = f"{made.rows['scans']} scans, {made.rows['verdicts']} verdicts, {made.bytes / 1e6:.1f} MB"
    print(f"{path}: {counts}; read back and sound")
    print(f"audit: {made.rows['audit']} rows, the last one's hash is {made.audit_head}")
    if made.audit_fault is not None:
        print(f"the audit is not whole: {made.audit_fault}; see dermascan audit verify")
    for one in gone:
        print(f"removed {one}")
    return EXIT_OK


def restore(arguments: argparse.Namespace) -> int:
    """Take a copy into use; returns the exit code."""
    from agent.config import load_config
    from agent.records.keeping.owning import become_owner
    from agent.records.keeping.restore import restore as take
    from agent.records.sealing import read_seal

    config = load_config(arguments.config)
    seal = read_seal(config.privacy.field_key_file)
    try:
        who = getpass.getuser()
        become_owner(config.device.state_dir)
        done = take(arguments.file, config.device.state_dir, config.device.id, who, seal)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        print(json.dumps(asdict(done)))
        return EXIT_OK
    print(
        f"in use: {done.rows['scans']} scans, {done.rows['verdicts']} verdicts, {done.sent_again} events for the cloud"
    )
    if done.moved_to is not None:
        print(f"the database that was in use lies in {done.moved_to}")
    if done.erased_again:
        print(f"{done.erased_again} scans of patients who were erased since were erased in it, too")
    print("now start the agent: it finds the pictures again that came since")
    return EXIT_OK


class _Progress:
    """How far the copying is, on a terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown, self._said = shown, False

    def tell(self, done: int, total: int) -> None:
        """So many pages are copied."""
        if self._shown and total:
            print(f"\rcopying: {done / total:4.0%}", end="", file=sys.stderr, flush=True)
            self._said = True

    def end(self) -> None:
        """Leave the line to others."""
        if self._said:
            print("\r", end="", file=sys.stderr)


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
