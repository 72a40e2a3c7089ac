"""``dermascan reload``: wrong settings are named at once, right ones are taken over by the agent that runs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from agent.exits import EXIT_FAILED, EXIT_OK


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "reload",
        help="have the running agent read its settings again",
        description="Check the settings and have the running agent take them over, without a restart; its log names "
        "what has to wait for one. Exit codes: 0 the agent was told, 1 none runs, 78 the settings are wrong, and the "
        "agent goes on with those it has.",
    )
    parser.add_argument("--config", type=Path, required=True, help="settings (agent.example.toml explains every key)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, and tell the agent."""
    from agent.config import load_config
    from agent.reload import RELOAD_SIGNAL

    state_dir = load_config(arguments.config).device.state_dir
    try:
        process = running_on(state_dir)
        if process is not None:
            os.kill(process, RELOAD_SIGNAL)
    except ProcessLookupError:
        process = None
    except PermissionError:
        print(f"{state_dir}: the agent there is another user's: run this as root or as that user", file=sys.stderr)
        return EXIT_FAILED
    if process is None:
        print(f"{state_dir}: no agent runs there: start it, it reads its settings then", file=sys.stderr)
        return EXIT_FAILED
    print(f"the settings are right; the agent (process {process}) takes them over, and its journal says what changed")
    return EXIT_OK


def running_on(state_dir: Path) -> int | None:
    """The process that holds ``state_dir``: it wrote its number into the lock, and has that file open still.

    Raises:
        PermissionError: the lock, or the process it names, is another user's.
    """
    from agent.records.opening import LOCK

    lock = state_dir / LOCK
    try:
        process = int(lock.read_text(encoding="ascii"))
        held = lock.stat()
        for handle in Path(f"/proc/{process}/fd").iterdir():
            try:
                if os.path.samestat(handle.stat(), held):
                    return process
            except FileNotFoundError:
                continue  # closed meanwhile
    except PermissionError:
        raise
    except (OSError, ValueError):
        return None
    return None
