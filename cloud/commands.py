"""``dermascan cloud``: the reference cloud in the foreground; ``dermascan cloud report``: what is missing, by device."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from cloud.mqtt import BrokerSettings
    from cloud.report import DeviceReport
    from cloud.server import Doorkeeper

LEDGER: Final = Path("cloud.db")


class _Unusable(Exception):
    """What was asked for cannot be done; one sentence."""


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

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        if arguments.broker is None and arguments.listen is None:
            raise _Unusable("nothing to do: give --broker HOST to hear devices, --listen HOST:PORT to answer, or both")
        with ExitStack() as stack:
            _start(arguments, stack)
            while not ended.wait(1.0):
                pass
    except _Unusable as error:
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
    from cloud.server import CloudServer
    from engines.bundle import demo_bundle_folder, load_bundle

    # Everything is checked before anything is started.
    settings = _broker_settings(arguments) if arguments.broker is not None else None
    address = _address(arguments.listen, None) if arguments.listen is not None else None
    doorkeeper = _doorkeeper(arguments, address[0]) if address is not None else None
    consumer = None
    if settings is not None:
        ledger = Ledger(arguments.ledger)
        stack.callback(ledger.close)
        consumer = Consumer(ledger, settings)
        consumer.start()
        stack.callback(consumer.stop)
        print(f"hearing devices on {settings.host}:{settings.port}, ledger {arguments.ledger}", flush=True)
    if address is not None and doorkeeper is not None:
        analyser = Analyser(load_bundle(arguments.bundle or demo_bundle_folder()))
        server = CloudServer(address, analyser, doorkeeper, None if consumer is None else lambda: consumer.state)
        stack.callback(analyser.stop)
        analyser.start()
        server.start()
        stack.callback(server.stop)
        scheme = "http" if doorkeeper.tls is None else "https"
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

    table = Table(box=None, pad_edge=False)
    left = ("clinic", "device", "state", "topic", "last heard (UTC)", "missing numbers")
    for heading in ("clinic", "device", "state", "topic", "heard", "repeats", "unreadable", "highest", "missing"):
        table.add_column(heading, justify="left" if heading in left else "right")
    table.add_column("missing numbers")
    for device in devices:
        state = device.state or "unknown"
        for stream in device.streams:
            numbers = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in stream.gaps)
            if stream.missing and sum(last - first + 1 for first, last in stream.gaps) < stream.missing:
                numbers += ", …"
            if stream.reused:
                numbers += f"{'; ' if numbers else ''}{stream.reused} numbers came twice: it numbers anew"
            cells = (device.clinic_id, device.device_id, state, stream.topic, stream.heard, stream.duplicates)
            table.add_row(
                *(escape(str(cell)) for cell in (*cells, stream.malformed, stream.highest, stream.missing, numbers))
            )
        if not device.streams:
            table.add_row(escape(device.clinic_id), escape(device.device_id), state)
    Console().print(table if devices else "no device was heard")


def _broker_settings(arguments: argparse.Namespace) -> BrokerSettings:
    from cloud.mqtt import BrokerSettings

    host, port = _address(arguments.broker, 8883 if arguments.ca else 1883)
    if arguments.ca is None and not (arguments.allow_insecure or _is_loopback(host)):
        raise _Unusable(f"{host}: a plain connection goes to this machine only; give --ca FILE, or --allow-insecure")
    if (arguments.cert is None) != (arguments.key is None):
        raise _Unusable("--cert and --key belong together")
    for path in (arguments.ca, arguments.cert, arguments.key):
        _readable(path)
    return BrokerSettings(
        host=host,
        port=port,
        ca=arguments.ca,
        cert=arguments.cert,
        key=arguments.key,
        username=arguments.username,
        password=_secret(arguments.password_file),
        client_id=arguments.client_id,
        group=arguments.group,
    )


def _doorkeeper(arguments: argparse.Namespace, host: str) -> Doorkeeper:
    from cloud.server import Doorkeeper, server_context

    cert, key, client_ca = arguments.listen_cert, arguments.listen_key, arguments.client_ca
    if (cert is None) != (key is None) or (client_ca is not None and cert is None):
        raise _Unusable("--listen-cert and --listen-key belong together, and --client-ca needs them")
    try:
        tls = server_context(str(cert), str(key), client_ca and str(client_ca)) if cert is not None else None
    except OSError as error:
        raise _Unusable(f"{cert}, {key}: cannot be used for TLS ({error.strerror or error})") from error
    doorkeeper = Doorkeeper(tls, _secret(arguments.token_file))
    if not (arguments.allow_insecure or _is_loopback(host)):
        if tls is None:
            raise _Unusable(f"{host}: without TLS it listens on this machine only; give --listen-cert and --listen-key")
        if not doorkeeper.asks_certificate and doorkeeper.token is None:
            raise _Unusable(f"{host}: anybody could ask; give --client-ca FILE or --token-file FILE")
    return doorkeeper


def _address(text: str, usual_port: int | None) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]" in text else (text, "", "")
    if "]" in text and text.endswith("]"):
        host, port = text, ""
    host = host.strip("[]")
    if not port and usual_port is not None:
        return host, usual_port
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise _Unusable(f"{text!r}: is no HOST:PORT")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _readable(path: Path | None) -> None:
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
        raise _Unusable(f"{path}: cannot be read; name a file that this user may read")


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    _readable(path)
    secret = path.read_text().strip()
    if not secret or not secret.isascii():
        raise _Unusable(f"{path}: is empty, or holds more than plain characters")
    return secret
