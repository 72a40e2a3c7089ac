"""``dermascan retention`` and ``dermascan patient``: giving up what is due, and what a patient may ask for."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records.errors import StoreError
from agent.records.sealing import Seal


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan retention`` and ``dermascan patient``."""
    parser = subparsers.add_parser(
        "retention",
        help="give up what has been kept for long enough",
        description="Gives up what is due, as the running agent does by itself every hour: scans older than [store] "
        "retention_days are reduced to their answer; where there is too little room, copies of events that the cloud "
        "has, and pictures of scans older than 30 days. Never an event that was not sent, a verdict, the audit, or a "
        "capture that is not answered. The agent may run or not.",
        epilog=f"exit status: {EXIT_OK} done; {EXIT_FAILED} it could not be done, or there is too little room all the "
        "same; 78 wrong configuration",
    )
    _common(parser)
    parser.set_defaults(run=retention)
    parser = subparsers.add_parser(
        "patient",
        help="what a patient may ask for: everything that is kept of them, or to be forgotten",
        description="export: write all that this device keeps of a patient into a ZIP file. erase: forget a patient: "
        "their fields, pictures, heat maps, file names, notes and exported files go; which model answered what stays, "
        "without anything that tells whose it was (docs/operations-data.md says why). Captures in the dermoscopes' "
        "folders are the clinic's own and are listed, not removed. The agent may run or not.",
        epilog=f"exit status: {EXIT_OK} done; {EXIT_FAILED} it could not be done, or no scan is of this patient; 2 "
        "wrong words; 78 wrong configuration",
    )
    parser.add_argument("what", choices=("export", "erase"), help="see above")
    parser.add_argument("--patient", required=True, metavar="ID", help="as the clinic writes it")
    parser.add_argument("--to", type=Path, metavar="FILE", help="of export: the ZIP file (patient-export.zip)")
    parser.add_argument("--yes", action="store_true", help="of erase: do not ask whether it is meant")
    _common(parser)
    parser.set_defaults(run=patient)


def retention(arguments: argparse.Namespace) -> int:
    """Give up what is due; returns the exit code."""
    from agent.config import load_config
    from agent.records import orders
    from agent.records.keeping.owning import ask
    from agent.records.keeping.retention import GivenUp, told

    config = load_config(arguments.config)
    try:
        report = ask(config, orders.RetentionOrder(id=orders.new_id()), _clock_trusted)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        print(json.dumps(report))
    else:
        given_up = GivenUp(**report["given_up"])
        print(f"given up: {told(given_up)}" if given_up else "nothing is due")
        for sentence in (report["doubt"], report["short"]):
            if sentence is not None:
                print(sentence)
    return EXIT_OK if report["short"] is None else EXIT_FAILED


def patient(arguments: argparse.Namespace) -> int:
    """Export or erase; returns the exit code."""
    from agent.config import load_config
    from agent.records.sealing import read_seal

    config = load_config(arguments.config)
    state_dir = config.device.state_dir
    seal = read_seal(config.privacy.field_key_file)  # who may not read the key finds no patient, and must be told
    try:
        scan_ids = _find(state_dir, arguments.patient, seal)
        if arguments.what == "export":
            return _export(arguments, state_dir, scan_ids, seal)
        return _erase(arguments, config, scan_ids)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _find(state_dir: Path, patient_id: str, seal: Seal) -> list[str]:
    from agent.records.keeping.patients import scans_of
    from agent.records.reading import open_reading
    from agent.records.sealed_rows import is_sealed

    with open_reading(state_dir) as db:
        sealed = is_sealed(db)
    if sealed and seal.key_id is None:
        raise StoreError("patient fields are sealed: name the key with [privacy] field_key_file")
    return scans_of(state_dir, patient_id, seal)


def _export(arguments: argparse.Namespace, state_dir: Path, scan_ids: list[str], seal: Seal) -> int:
    from agent.records import orders, spool
    from agent.records.keeping.patients import export

    if not scan_ids:
        raise StoreError("no scan is of this patient: check how the clinic writes the id")
    target = arguments.to or Path("patient-export.zip")
    if target.exists():
        raise StoreError(f"{target}: is there already: name another file with --to")
    count = export(state_dir, scan_ids, target, seal)
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    order = orders.AuditOrder(
        id=orders.new_id(),
        action="export",
        who=getpass.getuser(),
        subject="everything of one person",
        detail={"scans": count},
        at=at,
    )
    spool.place(state_dir, order)
    sentence = f"{target}: {count} scans; it names the patient: keep it safe"
    _say(arguments, {"path": str(target), "scans": count}, sentence)
    return EXIT_OK


def _erase(arguments: argparse.Namespace, config: Any, scan_ids: list[str]) -> int:
    from agent.records import orders
    from agent.records.keeping.owning import ask
    from agent.records.keeping.patients import captures_of

    captures = captures_of(config.device.state_dir, scan_ids)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise StoreError("nothing was erased: say --yes, as there is nobody to ask")
        print(f"{len(scan_ids)} scans are of this patient. What names them or shows their skin is removed for good.")
        if input("Type 'erase' to go on: ").strip() != "erase":
            raise StoreError("nothing was erased")
    order = orders.EraseOrder(id=orders.new_id(), patient_id=arguments.patient, who=getpass.getuser())
    done = ask(config, order, _clock_trusted)
    counts = (
        f"{done['scans']} scans",
        f"{done['exported_files']} exported files",
        f"{done['databases']} old databases",
    )
    lines = [f"erased: {', '.join(counts)}"]
    if done["unfinished"]:
        lines.append(
            f"{done['unfinished']} pictures of this patient are not answered yet: give this command again later"
        )
    if not done["scrubbed"]:
        lines.append("somebody reads the database: the agent empties its log as soon as nobody does")
    lines.append("backups still hold the patient until the next one is made: dermascan backup")
    if captures:
        lines.append("these pictures are the clinic's own, and the agent removes none: remove them where you must")
        lines += [f"  {path}" for path in captures]
    _say(arguments, done | {"captures": [str(path) for path in captures]}, "\n".join(lines))
    return EXIT_OK if scan_ids or done["scans"] else EXIT_FAILED


def _say(arguments: argparse.Namespace, plain: dict[str, Any], text: str) -> None:
    print(json.dumps(plain) if arguments.json else text)


def _clock_trusted() -> bool:
    from calibration.shelf.clock import RELEASED

    return datetime.now(timezone.utc) >= RELEASED


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object that says what came of it")
