"""What the device shows the cloud, and whom it believes: certificates and the bearer token."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from engines.cloud.answer import CloudFailed
from engines.files import read_small

_MAX_TOKEN_BYTES: Final = 16 << 10


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later; where ``ca`` is given, it alone is believed, else what the system believes.

    Raises:
        CloudFailed: a file cannot be used; the sentence names it.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise CloudFailed(f"{ca}: cannot be used as cloud.ca ({ssl_reason(error)}); give a PEM file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise CloudFailed(
                f"{cert}: cannot be used as cloud.cert with cloud.key ({ssl_reason(error)}); give PEM files of one pair"
            ) from error
    return context


def ssl_reason(error: OSError) -> str:
    """Why, in a few words."""
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or type(error).__name__


def read_token(path: str) -> str:
    """The bearer token that a credential file holds.

    Raises:
        CloudFailed: the file cannot be read, or holds no token.
    """
    try:
        token = read_small(Path(path), _MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not ASCII"
        raise CloudFailed(f"{path}: cannot be read as cloud.token_file ({why})") from error
    if not token or any(not letter.isprintable() or letter == " " for letter in token):
        raise CloudFailed(f"{path}: cloud.token_file must hold one token and nothing else")
    return token
