"""From the command's options to settings that hold together; what is unsafe must be asked for by name."""

from __future__ import annotations

import argparse
import ipaddress
import os
from pathlib import Path

from cloud.mqtt import BrokerSettings
from cloud.server import Doorkeeper, server_context


class Unusable(Exception):
    """What was asked for cannot be done; one sentence."""


def broker_settings(arguments: argparse.Namespace) -> BrokerSettings:
    """Where the devices are heard; raises Unusable."""
    host, port = address_of(arguments.broker, 8883 if arguments.ca else 1883)
    if arguments.ca is None and not (arguments.allow_insecure or _is_loopback(host)):
        raise Unusable(f"{host}: a plain connection goes to this machine only; give --ca FILE, or --allow-insecure")
    if (arguments.cert is None) != (arguments.key is None):
        raise Unusable("--cert and --key belong together")
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


def doorkeeper(arguments: argparse.Namespace, host: str) -> Doorkeeper:
    """Who may ask for answers at ``host``; raises Unusable."""
    cert, key, client_ca = arguments.listen_cert, arguments.listen_key, arguments.client_ca
    if (cert is None) != (key is None) or (client_ca is not None and cert is None):
        raise Unusable("--listen-cert and --listen-key belong together, and --client-ca needs them")
    try:
        tls = server_context(str(cert), str(key), client_ca and str(client_ca)) if cert is not None else None
    except OSError as error:
        raise Unusable(f"{cert}, {key}: cannot be used for TLS ({error.strerror or error})") from error
    found = Doorkeeper(tls, _secret(arguments.token_file))
    if not (arguments.allow_insecure or _is_loopback(host)):
        if tls is None:
            raise Unusable(f"{host}: without TLS it listens on this machine only; give --listen-cert and --listen-key")
        if not found.asks_certificate and found.token is None:
            raise Unusable(f"{host}: anybody could ask; give --client-ca FILE or --token-file FILE")
    return found


def address_of(text: str, usual_port: int | None) -> tuple[str, int]:
    """``HOST:PORT`` as host and port; raises Unusable."""
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]" in text else (text, "", "")
    if "]" in text and text.endswith("]"):
        host, port = text, ""
    host = host.strip("[]")
    if not port and usual_port is not None:
        return host, usual_port
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise Unusable(f"{text!r}: is no HOST:PORT")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _readable(path: Path | None) -> None:
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
        raise Unusable(f"{path}: cannot be read; name a file that this user may read")


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    _readable(path)
    secret = path.read_text().strip()
    if not secret or not secret.isascii():
        raise Unusable(f"{path}: is empty, or holds more than plain characters")
    return secret
