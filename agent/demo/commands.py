"""``dermascan demo``: the agent in the foreground, a simulated dermoscope beside it, the answers in a live table."""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.exits import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from agent.analysts import Finished
    from agent.demo.dermoscope import SimulatedDermoscope
    from agent.demo.screen import Screen
    from agent.demo.table import Event
    from agent.demo.visit import Visit

READY_TIMEOUT_S: Final = 60.0
REFRESH_S: Final = 0.2
GAP_S: Final = 3.0
"""Between an answer and the next picture where nobody asked to be done soon."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="show the main job with simulated pictures",
        description="Run the agent in the foreground while a simulated dermoscope writes SYNTHETIC pictures into a "
        "folder, and show each answer. Demonstration weights: not for clinical use. Ends with Ctrl-C. "
        "Exit codes: 0 ended as asked, 1 an answer did not come or the agent could not start, 78 no usable bundle.",
    )
    parser.add_argument("--once", action="store_true", help="end by itself after the last answer")
    parser.add_argument(
        "--captures", type=_count, default=8, metavar="N", help="with --once: pictures to take (default 8)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("demo-state"),
        metavar="DIR",
        help="folder for settings, pictures and results (default ./demo-state)",
    )
    parser.add_argument("--seed", type=_seed, default=1, metavar="S", help="decides the pictures (default 1)")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: not negative")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; see the exit codes in ``--help``."""
    # Here and not above: the command line must stay quick for those who only ask for help.
    from agent.config import load_config
    from agent.daemon import Daemon
    from agent.demo.screen import HEADER
    from agent.demo.settings import CAPTURES, RESULTS, write_settings
    from agent.demo.table import outcome_of, rows_of, summary_of
    from agent.demo.visit import Visit
    from agent.records.errors import StoreError
    from engines.bundle import demo_bundle_folder

    print(f"DermaScan demo: {HEADER}", flush=True)
    state: Path = arguments.state
    config = load_config(write_settings(state, demo_bundle_folder()))
    _log_into(state / "agent.log")
    news: queue.Queue[Event] = queue.Queue()
    stop = _stop_on_signals()
    visit = Visit(
        _dermoscope(state / CAPTURES, arguments.seed, stop),
        news.put,
        stop,
        captures=arguments.captures if arguments.once else None,
        gap_s=0.2 if arguments.once else GAP_S,
    )

    def finished(event: Finished) -> None:
        news.put(outcome_of(event))
        visit.ended(event.path.name)

    daemon = Daemon(config, finished)
    try:
        daemon.start()
    except StoreError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    events: list[Event] = []
    try:
        failure = _wait_ready(daemon.wait_ready, stop)
        with _screen(state, once=arguments.once) as screen:
            if failure is None and not stop.is_set():
                visit.start()
                _show_until_over(visit, news, events, screen)
                visit.join()
                failure = visit.failure
            _drain(news, events)
            screen.show(rows_of(events))
    finally:
        daemon.stop()
    _drain(news, events)
    _say_goodbye(summary_of(rows_of(events), f"{state / RESULTS}"))
    if failure is not None:
        print(f"dermascan demo: {failure}; {state / 'agent.log'} tells more", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _stop_on_signals() -> threading.Event:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C breaks off at once."""
    stop = threading.Event()

    def asked(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
    return stop


def _log_into(path: Path) -> None:
    """Logs go into a file: on the screen they would tear the table."""
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", encoding="utf-8"
    )


def _dermoscope(folder: Path, seed: int, stop: threading.Event) -> SimulatedDermoscope:
    """A dermoscope whose pauses end when the demonstration is asked to stop."""
    from agent.demo.dermoscope import SimulatedDermoscope

    def sleep(seconds: float) -> None:
        stop.wait(seconds)

    return SimulatedDermoscope(folder, seed, sleep=sleep)


def _wait_ready(wait_ready: Callable[[float], bool], stop: threading.Event) -> str | None:
    """Wait for the engine; returns what went wrong, or None when it is ready or the wait was broken off."""
    print("starting the engine: it answers once it has passed its golden image", flush=True)
    for _ in range(round(READY_TIMEOUT_S / 0.25)):
        if wait_ready(0.25) or stop.is_set():
            return None
    return f"the engine was not ready within {READY_TIMEOUT_S:.0f} s"


def _screen(state: Path, *, once: bool) -> Screen:
    from rich.console import Console

    from agent.demo.screen import LiveScreen, PlainScreen
    from agent.demo.settings import CAPTURES, RESULTS

    console = Console()
    # A terminal that cannot show the bar's blocks gets the lines as well.
    if not console.is_terminal or not console.encoding.startswith("utf"):

        def write(line: str) -> None:
            print(line, flush=True)

        write(f"settings {state / 'agent.toml'}, pictures {state / CAPTURES}, results {state / RESULTS}")
        return PlainScreen(write)
    ending = "ends after the last answer" if once else "goes on until Ctrl-C"
    return LiveScreen(console, state / RESULTS, f"pictures {state / CAPTURES} · log {state / 'agent.log'} · {ending}")


def _show_until_over(visit: Visit, news: queue.Queue[Event], events: list[Event], screen: Screen) -> None:
    from agent.demo.table import rows_of

    screen.show(())
    while not visit.over:
        with contextlib.suppress(queue.Empty):
            events.append(news.get(timeout=REFRESH_S))
            _drain(news, events)
            screen.show(rows_of(events))


def _drain(news: queue.Queue[Event], events: list[Event]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            events.append(news.get_nowait())


def _say_goodbye(summary: Sequence[str]) -> None:
    from agent.demo.screen import HEADER

    print()
    for line in summary:
        print(line)
    print(HEADER, flush=True)
