"""``dermascan cloud``, the reference cloud in the foreground, and ``dermascan cloud report``, what is missing."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from cloud.report import DeviceReport, Stream

LEDGER: Final = Path("cloud.db")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan cloud`` and ``dermascan cloud report``."""
    parser = subparsers.add_parser(
        "cloud",
        help="run the reference cloud: hear devices, acknowledge, answer pictures",
        description="Hear the devices on an MQTT 5 broker, keep each event once in a ledger, acknowledge it after the "
        "commit; and answer pictures on POST /api/v1/analyze. Either part runs alone. For integrators, the demo and "
        "tests; docs/cloud.md says how it grows. Ends with Ctrl-C.",
        epilog="exit status: 0 ended as asked, 1 the ledger or the address cannot be used, 78 wrong options or bundle",
    )
    broker = parser.add_argument_group("hearing the devices")
    broker.add_argument("--broker", metavar="HOST[:PORT]", help="the broker (port 8883 with --ca, else 1883)")
    broker.add_argument("--ca", type=Path, metavar="FILE", help="whose certificates are believed; TLS where given")
    broker.add_argument("--cert", type=Path, metavar="FILE", help="this cloud's certificate")
    broker.add_argument("--key", type=Path, metavar="FILE", help="its key")
    broker.add_argument("--username", metavar="NAME", help="name at the broker")
    broker.add_argument("--password-file", type=Path, metavar="FILE", help="file with the password")
    broker.add_argument("--client-id", default="dermascan-cloud", metavar="ID", help="one each (%(default)s)")
    broker.add_argument("--group", default="cloud", metavar="NAME", help="of the shared subscription (%(default)s)")
    broker.add_argument("--ledger", type=Path, default=LEDGER, metavar="FILE", help="SQLite file (%(default)s)")
    http = parser.add_argument_group("answering pictures")
    http.add_argument("--listen", metavar="HOST:PORT", help="address of POST /api/v1/analyze; port 0 takes a free one")
    http.add_argument("--bundle", type=Path, metavar="DIR", help="bundle that answers (default: the demo bundle)")
    http.add_argument("--trust-dir", type=Path, metavar="DIR", help="keys that sign bundles (default: the demo's)")
    http.add_argument("--listen-cert", type=Path, metavar="FILE", help="the server's certificate; TLS where given")
    http.add_argument("--listen-key", type=Path, metavar="FILE", help="its key")
    http.add_argument("--client-ca", type=Path, metavar="FILE", help="ask clients for a certificate of this CA")
    http.add_argument("--token-file", type=Path, metavar="FILE", help="file with the bearer token that is asked for")
    parser.add_argument(
        "--allow-insecure", action="store_true", help="plain connections and strangers, not on this machine alone"
    )
    parser.set_defaults(run=serve)
    below = parser.add_subparsers(metavar="report")
    shown = below.add_parser(
        "report",
        help="show what was heard of each device, and what is missing",
        description="Show what was heard of each device, and which numbers are missing. The cloud may run.",
        epilog="exit status: 0 nothing is missing, 3 something is, 1 the ledger cannot be read",
    )
    shown.add_argument("--ledger", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=f"SQLite file ({LEDGER})")
    shown.add_argument("--json", action="store_true", help="one JSON object per line and device")
    shown.set_defaults(run=show_report)


def serve(arguments: argparse.Namespace) -> int:
    """Run the cloud until it is told to end; returns the exit code."""
    from cloud.ledger import LedgerError
    from cloud.options import Unusable

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with ExitStack() as stack:
            _start(arguments, stack)
            while not ended.wait(1.0):
                pass
    except Unusable as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except LedgerError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"{arguments.listen}: cannot be listened on ({error.strerror or error})", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _start(arguments: argparse.Namespace, stack: ExitStack) -> None:
    """Start what is asked for; the stack stops it."""
    from cloud.analyser import Analyser
    from cloud.consumer import Consumer
    from cloud.ledger import Ledger
    from cloud.options import Unusable, address_of, broker_settings, doorkeeper
    from cloud.server import CloudServer
    from engines.bundle import demo_bundle_folder, load_bundle
    from engines.trust.verifying import DEMO_TRUST, Trust

    if arguments.broker is None and arguments.listen is None:
        raise Unusable("nothing to do: give --broker HOST to hear devices, --listen HOST:PORT to answer, or both")
    # Everything is checked before anything is started.
    settings = broker_settings(arguments) if arguments.broker is not None else None
    analyser = consumer = None
    if arguments.listen is not None:
        address = address_of(arguments.listen, None)
        keeper = doorkeeper(arguments, address[0])
        trust = DEMO_TRUST if arguments.trust_dir is None else Trust(arguments.trust_dir, require_trusted=True)
        analyser = Analyser(load_bundle(arguments.bundle or demo_bundle_folder(), trust=trust))
    if settings is not None:
        ledger = Ledger(arguments.ledger)
        stack.callback(ledger.close)
        try:
            consumer = Consumer(ledger, settings)
        except OSError as error:
            raise Unusable(f"--ca, --cert or --key cannot be used ({error.strerror or error})") from error
        consumer.start()
        stack.callback(consumer.stop)
        print(f"hearing devices on {settings.host}:{settings.port}, ledger {arguments.ledger}", flush=True)
    if analyser is not None:
        server = CloudServer(address, analyser, keeper, None if consumer is None else lambda: consumer.state)
        stack.callback(analyser.stop)
        analyser.start()
        server.start()
        stack.callback(server.stop)
        scheme = "http" if keeper.tls is None else "https"
        print(f"answering on {scheme}://{address[0]}:{server.server_port} with {analyser.model}", flush=True)


def show_report(arguments: argparse.Namespace) -> int:
    """Show the ledger's gaps; returns the exit code."""
    from agent.exits import EXIT_SOME_REJECTED
    from cloud.ledger import LedgerError
    from cloud.report import report

    try:
        devices = report(arguments.ledger)
    except LedgerError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        for device in devices:
            print(json.dumps(asdict(device)))
    else:
        _show(devices)
    return EXIT_SOME_REJECTED if any(stream.missing for device in devices for stream in device.streams) else EXIT_OK


def _show(devices: list[DeviceReport]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not devices:
        console.print("no device was heard")
    for device in devices:
        console.print(
            f"[bold]{escape(device.clinic_id)} / {escape(device.device_id)}[/bold]: {device.state or 'unknown'}"
        )
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("topic", "heard", "repeats", "unreadable", "highest", "missing"):
            table.add_column(heading, justify="left" if heading == "topic" else "right", no_wrap=True)
        table.add_column("which")
        for stream in device.streams:
            numbers = (stream.heard, stream.duplicates, stream.malformed, stream.highest, stream.missing)
            table.add_row(escape(stream.topic), *map(str, numbers), _which(stream))
        if device.streams:
            console.print(table)


def _which(stream: Stream) -> str:
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in stream.gaps]
    if sum(last - first + 1 for first, last in stream.gaps) < stream.missing:
        parts.append("...")
    if stream.reused:
        parts.append(f"{stream.reused} came twice: numbered anew")
    return ", ".join(parts)
