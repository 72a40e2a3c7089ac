"""``dermascan demo``: the agent in the foreground, a simulated dermoscope and a small cloud beside it, a live table."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.exits import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from agent.demo.round_trip import Balance, RoundTrip
    from agent.demo.screen import Screen
    from agent.demo.table import Event

NO_BROKER: Final = (
    "no round trip to the cloud: the embedded broker (iotcore) is not installed here; events wait in the outbox"
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="show the main job with simulated pictures",
        description="Run the agent in the foreground while a simulated dermoscope writes SYNTHETIC pictures into a "
        "folder, and show each answer and its way to a reference cloud, through a broker on this machine and a network "
        "that is pulled now and then. Demonstration weights: not for clinical use. Ends with Ctrl-C. "
        "Exit codes: 0 ended as asked, 1 an answer did not come, did not reach the cloud's ledger exactly once, or the "
        "agent could not start, 78 no usable bundle.",
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
    from agent.access.files import AccessError
    from agent.demo.performance import Performance
    from agent.demo.screen import HEADER
    from agent.records.errors import StoreError

    print(f"DermaScan demo: {HEADER}", flush=True)
    state: Path = arguments.state
    stop = _stop_on_signals()
    try:
        performance = Performance(state, arguments.seed, arguments.captures if arguments.once else None, stop)
    except AccessError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    _log_into(state / "agent.log")
    print("starting the engine: it answers once it has passed its golden image", flush=True)
    if performance.round_trip is not None:
        print("starting the other side: an MQTT broker and the reference cloud", flush=True)
    try:
        with performance:
            failure = performance.wait_ready()
            for line in _places(state, performance.round_trip, performance.page):
                print(line, flush=True)
            if failure is None and not stop.is_set():
                with _screen(state, cloud=_has_cloud(performance.round_trip), once=arguments.once) as screen:
                    failure = performance.run(screen)
    except StoreError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return _say_goodbye(performance.events, state, performance.balance, failure)


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


def _places(state: Path, round_trip: RoundTrip | None, page: str | None) -> Iterator[str]:
    """Where everything is, a line each: files, cloud, and whatever else has an address."""
    from agent.demo.settings import CAPTURES, RESULTS

    yield f"settings {state / 'agent.toml'}, pictures {state / CAPTURES}, results {state / RESULTS}"
    yield NO_BROKER if round_trip is None else round_trip.place
    yield f"no clinic page: {state / 'agent.log'} says why" if page is None else f"the clinic page: open {page}"


def _has_cloud(round_trip: RoundTrip | None) -> bool:
    return round_trip is not None and round_trip.trouble is None


def _screen(state: Path, *, cloud: bool, once: bool) -> Screen:
    from rich.console import Console

    from agent.demo.screen import LiveScreen, PlainScreen
    from agent.demo.settings import RESULTS

    console = Console()
    # A terminal that cannot show the bar's blocks gets the lines as well.
    if not console.is_terminal or not console.encoding.startswith("utf"):

        def write(line: str) -> None:
            print(line, flush=True)

        return PlainScreen(write)
    ending = "ends after the last answer" if once else "goes on until Ctrl-C"
    return LiveScreen(console, state / RESULTS, f"log {state / 'agent.log'} · {ending}", cloud=cloud)


def _say_goodbye(events: Sequence[Event], state: Path, balance: Balance | None, failure: str | None) -> int:
    """The last words; returns the exit code."""
    from agent.demo.screen import HEADER
    from agent.demo.settings import RESULTS
    from agent.demo.table import rows_of, summary_of

    print()
    for line in (*summary_of(rows_of(events), f"{state / RESULTS}"), *(balance.lines if balance else ())):
        print(line)
    print(HEADER, flush=True)
    failures = [found for found in (failure, balance and balance.failure) if found is not None]
    for found in failures:
        print(f"dermascan demo: {found}; {state}/*.log tell more", file=sys.stderr)
    return EXIT_FAILED if failures else EXIT_OK
