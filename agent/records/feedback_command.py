"""``dermascan feedback``: what a clinician or a pathologist says of a scan."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

from agent.answer.scan import ScanState
from agent.exits import EXIT_FAILED, EXIT_OK
from agent.messages.parts import DiagnosisClass
from agent.messages.verdicts import VerdictSource
from agent.records import spool
from agent.records.errors import StoreError
from agent.records.reading import ScanRow, agent_seems_to_run, find_scan

WAIT_S = 5.0
"""How long the running agent is given to take a verdict up before we say that it will."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan feedback``."""
    parser = subparsers.add_parser(
        "feedback",
        help="record a clinician's or pathologist's verdict on a scan",
        description="Records what a clinician or a pathologist says of a scan, for good: a later verdict on the same "
        "scan supersedes it and both are kept. Agreeing with the model counts as much as correcting it. The cloud is "
        "told the diagnosis, the source, and what the model had suggested. --by and --note stay on this device. "
        "The agent need not run: it takes the verdict up when it does.",
        epilog=f"exit status: {EXIT_OK} recorded, or kept for the agent to record; {EXIT_FAILED} no such scan, or one "
        "that has not been answered yet; 2 wrong words; 78 wrong configuration",
    )
    parser.add_argument(
        "scan_id",
        metavar="SCAN_ID",
        help="the name of the scan's files in results/; also in dermascan scans --json",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--diagnosis", choices=get_args(DiagnosisClass), metavar="CLASS", help=_listed(DiagnosisClass))
    what.add_argument(
        "--withdraw", action="store_true", help="take back the verdict that stands; it is kept, and stands no more"
    )
    parser.add_argument(
        "--source", required=True, choices=get_args(VerdictSource), metavar="SOURCE", help=_listed(VerdictSource)
    )
    parser.add_argument("--by", type=_text(200), metavar="NAME", help="who says so; never leaves this device")
    parser.add_argument("--note", type=_text(10_000), metavar="TEXT", help="why; never leaves this device")
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object that says what became of it")
    parser.set_defaults(run=feedback)


def feedback(arguments: argparse.Namespace) -> int:
    """Record a verdict; returns the exit code."""
    from agent.config import load_config

    state_dir = load_config(arguments.config).device.state_dir
    try:
        scan = _scan_to_judge(state_dir, arguments.scan_id)
        order = spool.VerdictOrder(
            id=spool.new_id(),
            scan_id=scan.scan_id,
            diagnosis=arguments.diagnosis,
            source=arguments.source,
            by=arguments.by,
            note=arguments.note,
            given_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        recorded = hand_over(state_dir, order)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        told = {"verdict_id": order.id, "scan_id": scan.scan_id, "diagnosis": order.diagnosis, "source": order.source}
        print(json.dumps(told | {"agreement": _agreement(scan, order.diagnosis), "recorded": recorded}))
    else:
        print(_sentence(scan, order.diagnosis))
        print(f"recorded as verdict {order.id}" if recorded else "kept: the agent records it as soon as it runs")
    return EXIT_OK


def hand_over(state_dir: Path, order: spool.AnyOrder) -> bool:
    """Put an order into the spool, and wait a little for a running agent; True where it has done it.

    Raises:
        StoreError: the agent refused it; the text says why.
        OSError: the spool cannot be written.
    """
    path = spool.place(state_dir, order)
    give_up = time.monotonic() + WAIT_S
    while path.exists():
        if time.monotonic() > give_up or not agent_seems_to_run(state_dir):
            return False
        time.sleep(0.05)
    if (reason := spool.refusal(path)) is not None:
        raise StoreError(reason)
    return True


def _scan_to_judge(state_dir: Path, scan_id: str) -> ScanRow:
    scan = find_scan(state_dir, scan_id)
    if scan is None:
        raise StoreError(f"scan {scan_id} is not in the database: dermascan scans --json lists what is")
    if scan.state is ScanState.RECEIVED:
        raise StoreError(f"scan {scan_id} has not been answered yet: give the verdict when it has")
    return scan


def _suggestion(scan: ScanRow) -> dict[str, Any] | None:
    return None if scan.state is not ScanState.ANSWERED or scan.result is None else scan.result["diagnosis"]


def _agreement(scan: ScanRow, diagnosis: str | None) -> str:
    suggestion = _suggestion(scan)
    if diagnosis is None:
        return "withdrawn"
    if suggestion is None:
        return "no_suggestion"
    return "confirmation" if suggestion["primary"] == diagnosis else "correction"


def _sentence(scan: ScanRow, diagnosis: str | None) -> str:
    name = scan.path.rpartition("/")[2]
    if diagnosis is None:
        return f"{name}: the verdict that stood is withdrawn"
    said = diagnosis.replace("_", " ")
    suggestion = _suggestion(scan)
    if suggestion is None:
        return f"{name}: {said}; the capture was refused, so the model had suggested nothing"
    model = f"{suggestion['primary'].replace('_', ' ')}, melanoma risk {suggestion['melanoma_risk']:.1%}"
    if suggestion["primary"] == diagnosis:
        return f"{name}: {said}, as the model suggested ({model})"
    return f"{name}: {said}, where the model suggested {model}"


def _listed(choices: object) -> str:
    return "one of " + ", ".join(get_args(choices))


def _text(most: int) -> Any:
    def text(value: str) -> str:
        # What the shell hands over may be bytes that are no UTF-8; neither the spool nor the database holds such.
        value = os.fsencode(value).decode("utf-8", "replace").strip()
        if not value or len(value) > most:
            raise argparse.ArgumentTypeError(f"must have 1 to {most} characters")
        return value

    return text
