"""Everything that may go wrong with a cloud (F26): how the stand-in does it, and the sentence that is due."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import cv2
import numpy as np
from cryptography import x509

from tests.fakes.certificates import CertificateAuthority
from tests.fakes.stand_in_cloud import Mode, StandInCloud, http

Fault = tuple[Callable[[StandInCloud], Mode], str]
_DAY = timedelta(days=1)


def _says(status: int, body: bytes = b"{}", *headers: str, kind: str = "application/json") -> Callable[..., Mode]:
    return lambda cloud: Mode(reply=lambda right: http(status, body, *headers, kind=kind))


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[..., Mode]:
    return lambda cloud: Mode(change=change)


def _expired(cloud: StandInCloud) -> Mode:
    now = datetime.now(timezone.utc)
    return Mode(server=cloud.certificate("expired", begin=now - 9 * _DAY, end=now - _DAY))


def _other_ca(cloud: StandInCloud) -> Mode:
    return Mode(server=CertificateAuthority(cloud.folder / "other", "other CA").server())


def _other_name(cloud: StandInCloud) -> Mode:
    return Mode(server=cloud.certificate("elsewhere", hosts=[x509.DNSName("elsewhere.example")]))


def _png(picture: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()


def _shares(**shares: float) -> Callable[[dict[str, Any]], object]:
    return lambda right: right["diagnosis"]["all_classes"].update(shares)


def _without(*path: str) -> Callable[[dict[str, Any]], object]:
    def drop(right: dict[str, Any]) -> None:
        for key in path[:-1]:
            right = right[key]
        del right[path[-1]]

    return drop


def _class_renamed(right: dict[str, Any]) -> None:
    shares = right["diagnosis"]["all_classes"]
    shares["nevus"] = shares.pop("melanocytic_nevus")


def _nan(right: dict[str, Any]) -> bytes:
    right["diagnosis"]["all_classes"]["melanoma"] = float("nan")
    return http(200, json.dumps(right).encode())


ENDLESS = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n"

QUICK: dict[str, Fault] = {
    "refused": (lambda cloud: Mode(refuse=True), "could not be reached"),
    "hangs up": (lambda cloud: Mode(reply=lambda right: None), "broke off"),
    "500": (_says(500), r"failed \(500\)"),
    "503": (_says(503), r"failed \(503\)"),
    "401": (_says(401), r"does not know this device.*\(401\)"),
    "403": (_says(403), r"forbids this device.*\(403\)"),
    "404": (_says(404), r"nothing at /api/v1/analyze.*\(404\)"),
    "429": (_says(429), r"asked too often \(429\)"),
    "204": (_says(204, b""), r"refused \(204\)"),
    "redirect": (_says(307, b"", "Location: /elsewhere"), r"redirects elsewhere \(307\)"),
    "login page": (_says(200, b"<html>log in</html>", kind="text/html"), "not JSON: something else"),
    "rubbish": (_says(200, b"\x00\xffrubbish"), "it is not JSON"),
    "a list": (_says(200, b"[1, 2]"), "not in the agreed form"),
    "packed": (_says(200, b"\x1f\x8b", "Content-Encoding: gzip"), "packed"),
    "no diagnosis": (_changed(_without("diagnosis")), "diagnosis: Field required"),
    "no heatmap": (_changed(_without("attention_map")), "attention_map: Field required"),
    "a class less": (_changed(_without("diagnosis", "all_classes", "dermatofibroma")), "other classes"),
    "another class": (_changed(_class_renamed), "other classes"),
    "NaN": (lambda cloud: Mode(reply=_nan), "all_classes.melanoma: Input should be a finite number"),
    "text for a number": (_changed(lambda right: right["diagnosis"].update(confidence="0.4")), "confidence"),
    "above one": (_changed(_shares(melanoma=1.4)), "less than or equal to 1"),
    "not summing": (_changed(_shares(melanoma=0.9)), "do not sum to 1"),
    "another primary": (_changed(lambda right: right["diagnosis"].update(primary="dermatofibroma")), "contradicts"),
    "unknown primary": (_changed(lambda right: right["diagnosis"].update(primary="wart")), "contradicts"),
    "another risk": (_changed(lambda right: right["diagnosis"].update(melanoma_risk=0.01)), "contradicts"),
    "another model": (_changed(lambda right: right.update(model_version="demo/9.0.0")), "another model than demo/"),
    "no base64": (_changed(lambda right: right.update(attention_map="?!")), "heatmap is no PNG"),
    "no PNG": (_changed(lambda right: right.update(attention_map="AAAA")), "heatmap is no PNG"),
    "huge heatmap": (
        _changed(lambda right: right.update(attention_map=_png(np.zeros((4000, 4000), np.uint8)))),
        "usable size",
    ),
    "coloured heatmap": (
        _changed(lambda right: right.update(attention_map=_png(np.zeros((224, 224, 3), np.uint8)))),
        "grey or palette",
    ),
    "oversized": (lambda cloud: Mode(reply=lambda right: ENDLESS, drip=b" " * 65536, pause_s=0.0), "larger than"),
    "no TLS": (lambda cloud: Mode(plain=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no TLS connection"),
    "expired certificate": (_expired, "certificate is not believed .*expired"),
    "another CA": (_other_ca, "certificate is not believed"),
    "another host's certificate": (_other_name, "certificate is not believed .*localhost"),
}
"""By its name: how it is done, and what is said of it."""

SLOW: dict[str, Fault] = {
    "black hole": (lambda cloud: Mode(deaf=True), "could not be reached in time"),
    "silent": (lambda cloud: Mode(reply=lambda right: b""), "did not answer in time"),
    "slow": (lambda cloud: Mode(pause_s=30.0), "did not answer in time"),
    "dripping": (lambda cloud: Mode(reply=lambda right: ENDLESS, drip=b" ", pause_s=0.05), "did not end in time"),
    "half an answer": (
        lambda cloud: Mode(reply=lambda right: http(200, b"x" * 900)[:100], drip=b"", pause_s=0.0),
        "did not answer in time",
    ),
}
"""Those that take the time they are given."""
