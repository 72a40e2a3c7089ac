"""``dermascan audit``: whether the audit is whole, and its rows for an auditor. It only reads."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records.audit import COLUMNS
from agent.records.audit_reading import Check, exported, rows_since, verify
from agent.records.errors import StoreError

EXIT_NOT_WHOLE: Final = 2
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet takes a cell for a formula."""


def register_audit(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan audit``."""
    parser = subparsers.add_parser(
        "audit",
        help="who did what on this device",
        description="Shows who did what on this device and when: sign-ins, verdicts, calibrations, overrides, changes "
        "of the model, exports, tokens. Rows are only ever added, each sealed together with the one before it. "
        "It only reads, and the agent may run or not.",
    )
    verbs = parser.add_subparsers(required=True, metavar="WHAT")
    verify_ = verbs.add_parser(
        "verify",
        help="find out whether a row was changed, taken out, put in or moved",
        description="Computes the chain of hashes again and names the first row that is wrong. It prints the head, "
        "the last row's hash: note it outside of this device from time to time. Who can write this device's "
        "disk can rewrite the whole audit, every hash with it; only a head noted before then (--head) shows that.",
        epilog=f"exit status: {EXIT_OK} whole; {EXIT_NOT_WHOLE} a row is wrong, or wrong words; {EXIT_FAILED} no "
        "database that can be read; 78 wrong configuration",
    )
    verify_.add_argument(
        "--head", type=_hash, metavar="HASH", help="a head that was noted earlier: it must be in there"
    )
    verify_.add_argument("--json", action="store_true", help="one JSON object")
    verify_.set_defaults(run=verify_audit)
    export = verbs.add_parser(
        "export",
        help="write the rows to the standard output",
        description="Writes the rows, the oldest first, as one JSON object a line or as CSV. A row's hash is the "
        "SHA-256 of the object without 'hash', as JSON with sorted keys, without spaces and in ASCII.",
        epilog=f"exit status: {EXIT_OK} written; {EXIT_FAILED} no database that can be read; 2 wrong words; 78 wrong "
        "configuration",
    )
    form = export.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line (the default)")
    form.add_argument("--csv", action="store_true", help="CSV with a heading")
    export.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="from the first row of this day or time on (2026-11-30, or 2026-11-30T08:00; UTC where no zone is said)",
    )
    export.set_defaults(run=export_audit)
    for verb in (verify_, export):
        verb.add_argument(
            "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
        )


def verify_audit(arguments: argparse.Namespace) -> int:
    """Say whether the audit is whole; returns the exit code."""
    try:
        check = verify(_state_dir(arguments), arguments.head)
    except StoreError as error:
        return _failed(error)
    if arguments.json:
        head = {"seq": check.head_seq, "hash": check.head}
        faults = [asdict(fault) for fault in check.faults]
        told = {"whole": check.whole, "rows": check.rows, "head": head, "faults": faults}
        print(json.dumps(told | {"more_faults": check.more_faults}))
    else:
        _show(check)
    return EXIT_OK if check.whole else EXIT_NOT_WHOLE


def export_audit(arguments: argparse.Namespace) -> int:
    """Write the rows; returns the exit code."""
    rows = csv.writer(sys.stdout, lineterminator="\n") if arguments.csv else None
    try:
        if rows is not None:
            rows.writerow(COLUMNS)
        for row in rows_since(_state_dir(arguments), arguments.since):
            if rows is not None:
                rows.writerow([_cell(getattr(row, name)) for name in COLUMNS])
            else:
                print(json.dumps(exported(row), ensure_ascii=False))
    except StoreError as error:
        return _failed(error)
    return EXIT_OK


def _show(check: Check) -> None:
    for number, fault in enumerate(check.faults):
        print(f"{'first wrong' if number == 0 else '           '}  row {fault.seq}: {fault.sentence}")
    if check.more_faults:
        print(f"             and {check.more_faults} more")
    many = "1 row" if check.rows == 1 else f"{check.rows} rows"
    print(f"{'whole' if check.whole else 'NOT WHOLE'}: {many}")
    print(f"head: {check.head}" + (f"  (row {check.head_seq})" if check.rows else ""))
    if check.whole and check.rows:
        print("Note the head outside of this device: dermascan audit verify --head HASH shows later whether")
        print("everything was written anew.")


def _state_dir(arguments: argparse.Namespace) -> Path:
    from agent.config import load_config

    return load_config(arguments.config).device.state_dir


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _hash(text: str) -> str:
    text = text.strip().lower()
    if len(text) != 64 or any(one not in "0123456789abcdef" for one in text):
        raise argparse.ArgumentTypeError("must be 64 hexadecimal digits, as dermascan audit verify prints them")
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day or a time: 2026-11-30, or 2026-11-30T08:00") from None
    moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failed(error: Exception) -> int:
    print(error, file=sys.stderr)
    return EXIT_FAILED
