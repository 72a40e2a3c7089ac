"""``dermascan export``: one scan as DICOM, FHIR or JSON, the agent running or not."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.standards.export import Format


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan export``."""
    parser = subparsers.add_parser(
        "export",
        help="write a scan as DICOM, FHIR or JSON",
        description="Writes a scan for the hospital's other systems: DICOM (the overlay as a secondary capture image, "
        "and a TID 1500 report; needs dermascan-edge[standards]), a FHIR R4 bundle, or JSON. The files hold the "
        "patient's id, so the audit notes who wrote them. The agent may run or not. Repeated, it gives the same files.",
        epilog=f"exit status: {EXIT_OK} written; {EXIT_FAILED} no such scan, one that has not been answered yet, one "
        "that was refused (in DICOM), a library that is missing, or a folder or the audit that cannot be written; "
        "2 wrong words; 78 wrong configuration",
    )
    parser.add_argument(
        "scan_id",
        metavar="SCAN_ID",
        help="the name of the scan's files in results/; also in dermascan scans --json",
    )
    parser.add_argument(
        "--format", required=True, choices=[one.value for one in Format], metavar="FORMAT", help="dicom, fhir or json"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="the folder to write into (the current one)"
    )
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object that names the files")
    parser.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Write a scan's files; returns the exit code."""
    from agent.config import load_config
    from agent.records.errors import StoreError
    from agent.records.results import write_atomically
    from agent.standards.errors import ExportError
    from agent.standards.export import export_scan

    state_dir = load_config(arguments.config).device.state_dir
    folder: Path = arguments.out
    try:
        files = export_scan(state_dir, arguments.scan_id, Format(arguments.format))
    except (ExportError, StoreError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    try:
        _audit(state_dir, arguments.scan_id, arguments.format)
    except OSError as error:
        print(
            f"{state_dir}: the audit cannot be told ({error.strerror}); run this as the agent's user", file=sys.stderr
        )
        return EXIT_FAILED
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            write_atomically(folder / file.name, file.data)
    except OSError as error:
        print(f"{folder}: cannot be written ({error.strerror}); name another folder with --out", file=sys.stderr)
        return EXIT_FAILED
    paths = [str(folder / file.name) for file in files]
    if arguments.json:
        print(json.dumps({"scan_id": arguments.scan_id, "format": arguments.format, "files": paths}))
    else:
        for path in paths:
            print(path)
    return EXIT_OK


def _audit(state_dir: Path, scan_id: str, name: str) -> None:
    """Hand the audit's row to the agent, which adds it as soon as it runs; before anything of a patient is written.

    Raises:
        OSError: it cannot be handed over.
    """
    from agent.access.commands import who_asks
    from agent.records import spool

    order = spool.AuditOrder(
        id=spool.new_id(),
        action="export",
        who=who_asks(),
        subject=scan_id,
        detail={"format": name, "way": "command"},
        at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    spool.place(state_dir, order)
