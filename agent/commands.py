"""``dermascan run``: the daemon in the foreground, as a service runs it."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import signal
import sys
import threading
from pathlib import Path

from agent import reload_command
from agent.config import Config, ConfigError, load_config
from agent.exits import EXIT_FAILED, EXIT_OK
from engines.backend import BundleError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of the agent itself."""
    reload_command.register(subparsers)
    parser = subparsers.add_parser(
        "run",
        help="watch the dermoscopes' folders and answer every capture",
        description="Watch the dermoscopes' folders and answer every capture, until SIGTERM or SIGINT. "
        "Exit codes: 0 stopped as asked, 1 the store or the engine cannot be used, 78 the configuration is wrong.",
    )
    parser.add_argument("--config", type=Path, required=True, help="settings (agent.example.toml explains every key)")
    parser.add_argument("--verbose", action="store_true", help="log what a developer wants to know, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon until a signal."""
    from agent.daemon import Daemon
    from agent.memory import give_memory_back
    from agent.records.store import StoreError
    from agent.reload import RELOAD_SIGNAL, Reloads
    from agent.upkeep import logs
    from agent.upkeep.notify import LIMIT_S, Notifier, Watchdog, attend

    give_memory_back()
    lines = logs.start((), verbose=arguments.verbose)
    signal.signal(RELOAD_SIGNAL, signal.SIG_IGN)  # until there is something to reload
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the journal
    notifier = Notifier.from_environment()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        daemon = Daemon(load_config(arguments.config))
        lines.scrub(captures_in(daemon.config))
        daemon.start()
    except StoreError as error:
        notifier.status(str(error))
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except (ConfigError, BundleError) as error:
        notifier.status(str(error))
        raise
    log = logging.getLogger(__name__)
    log.info("watching %s", ", ".join(str(scope.folder) for scope in daemon.config.dermoscopes))
    # No answer takes longer than its deadline, the last rung's grace and a golden image.
    limit_s = LIMIT_S + 2 * daemon.config.inference.deadline_s
    watchdog = Watchdog(daemon.progress(), limit_s, notifier=notifier)
    reloads = Reloads(arguments.config, daemon.config, daemon.parts, lambda config: lines.scrub(captures_in(config)))
    signal.signal(RELOAD_SIGNAL, reloads.ask)
    reloads.start()
    attend(stop, notifier, watchdog, ready=lambda: daemon.wait_ready(0.0))
    reloads.stop()
    daemon.stop()
    lines.close()
    return EXIT_OK


def captures_in(config: Config) -> tuple[Path, ...]:
    """Where captures lie, whose names no line of the log may hold (F30)."""
    from agent.records.space import UPLOADS_DIR

    return (*(scope.folder for scope in config.dermoscopes), config.device.state_dir / UPLOADS_DIR)
