"""TLS to the broker: one CA of our own, the device's certificate, nothing older than TLS 1.2."""

from __future__ import annotations

import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from agent.config import MqttSection


class CannotConnect(Exception):
    """There is no connection; one sentence: to what, why, what to do."""


class Context(ssl.SSLContext):
    """Knows the socket that it wrapped last, as paho forgets to close one whose handshake failed."""

    wrapped: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        """As in the base class."""
        self.wrapped = super().wrap_socket(*arguments, **more)
        return self.wrapped

    def give_up(self) -> None:
        """Close it."""
        if self.wrapped is not None:
            self.wrapped.close()


def open_context(settings: MqttSection, device_id: str) -> Context | None:
    """What the settings' files say now, so that a renewed certificate needs no restart; None without TLS.

    Raises:
        CannotConnect: a file cannot be used.
    """
    if settings.ca is None:
        return None
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise CannotConnect(f"{settings.ca}: cannot be used as [mqtt] ca ({_why(error)})") from error
    if settings.cert is not None and settings.key is not None:
        _check_name(settings.cert, device_id)
        try:
            context.load_cert_chain(settings.cert, settings.key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            where = f"{settings.cert} and {settings.key}"
            raise CannotConnect(f"{where}: cannot be used as [mqtt] cert and key ({_why(error)})") from error
    return context


def refusal_hint(settings: MqttSection) -> str:
    """What may be wrong where a broker ended the handshake: TLS 1.3 often loses its word on why."""
    if settings.cert is None:
        return "it may ask for a certificate, and [mqtt] cert and key are not given"
    try:
        ends = x509.load_pem_x509_certificate(settings.cert.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return f"{settings.cert} cannot be read"
    if ends < datetime.now(timezone.utc):
        return f"{settings.cert} has expired ({ends:%Y-%m-%d}): renew it"
    return f"perhaps it does not believe {settings.cert}: it must be issued by a CA that the broker trusts"


def read_password(settings: MqttSection) -> str | None:
    """The credential file's content; None where none is named.

    Raises:
        CannotConnect: it cannot be read.
    """
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotConnect(
            f"{settings.password_file}: cannot be read as [mqtt] password_file ({_why(error)})"
        ) from error


def _check_name(cert: Path, device_id: str) -> None:
    try:
        names = x509.load_pem_x509_certificate(cert.read_bytes()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (OSError, ValueError) as error:
        raise CannotConnect(f"{cert}: cannot be used as [mqtt] cert ({_why(error)})") from error
    if [name.value for name in names] != [device_id]:
        held = ", ".join(str(name.value) for name in names) or "nobody"
        raise CannotConnect(
            f"{cert}: is the certificate of {held}, and [device] id is {device_id}; the common name must be the id"
        )


def _no_password() -> str:
    """OpenSSL would otherwise ask at the terminal for an encrypted key's."""
    return ""


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None) or str(
        error
    )
