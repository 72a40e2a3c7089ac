"""The records' commands, and ``dermascan scans``: what the agent knows of its captures, running or not."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.answer.scan import ScanState
from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records import backup_command, feedback_command, keeping_command, keys_command, queue_command
from agent.records.errors import StoreError
from agent.records.reading import ScanRow, list_scans

DEFAULT_LIMIT = 50


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan scans``, and the records' other commands."""
    for room in (feedback_command, queue_command, backup_command, keeping_command, keys_command):
        room.register(subparsers)
    parser = subparsers.add_parser(
        "scans",
        help="list the scans that the agent knows",
        description="Lists the scans that the agent knows, the newest last. It only reads, and the agent may run.",
        epilog=f"exit status: {EXIT_OK} listed, {EXIT_FAILED} no database that can be read, 78 wrong configuration",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line, with the whole result")
    parser.add_argument("--state", choices=[state.value for state in ScanState], metavar="S", help=_states())
    parser.add_argument(
        "--limit", type=_limit, default=DEFAULT_LIMIT, metavar="N", help="only the newest N, 0 for all (%(default)s)"
    )
    parser.set_defaults(run=scans)


def scans(arguments: argparse.Namespace) -> int:
    """List the scans; returns the exit code."""
    from agent.config import load_config

    state_dir = load_config(arguments.config).device.state_dir
    try:
        state = None if arguments.state is None else ScanState(arguments.state)
        rows = list_scans(state_dir, state, arguments.limit or None)
    except StoreError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        for row in rows:
            print(json.dumps(asdict(row), ensure_ascii=False))
    else:
        _show(rows)
    return EXIT_OK


def _show(rows: list[ScanRow]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("no.", "received (UTC)", "dermoscope", "capture", "state", "finding", "melanoma risk", "backend"):
        table.add_column(heading, justify="right" if heading in {"no.", "melanoma risk"} else "left")
    for row in rows:
        finding, risk = _finding(row)
        name = row.path.rpartition("/")[2]
        cells = (str(row.seq), row.received_at[:19].replace("T", " "), row.dermoscope_id, name, row.state.value)
        table.add_row(*map(escape, (*cells, finding, risk, row.backend or "")))
    console = Console()
    if rows:
        console.print(table)
    else:
        console.print("no scans")


def _finding(row: ScanRow) -> tuple[str, str]:
    """The suggestion and the risk of an answer, or why there is none."""
    if row.state is ScanState.ANSWERED and row.result is not None:
        diagnosis = row.result["diagnosis"]
        return diagnosis["primary"].replace("_", " "), f"{diagnosis['melanoma_risk']:.1%}"
    return row.sentence or "", ""


def _states() -> str:
    return "only those of a state: " + ", ".join(state.value for state in ScanState)


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number
