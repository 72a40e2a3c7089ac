"""The cloud backend: one HTTPS request for each picture. Imported by the worker process only.

What is sent is the calibrated picture at the network's own size, as a lossless PNG of pixels alone (about 70 kB at
224 x 224): the very picture that a local engine would see, undone from its input. A cloud with the same bundle sees
the same input to the last bit. Larger squares, to be shrunk again over there, moved a probability by up to 0.004, and
JPEG at quality 95 by up to 0.015 (benchmarks/sync.md). The golden image goes the same way, and another model's answer
is refused, since an answer names the model that gave it.

Whatever goes wrong is one sentence about the cloud, which holds nothing of what was sent or received (F26, F30).
"""

from __future__ import annotations

import base64
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from engines.backend import BundleError, Images, Output, Patients
from engines.cloud.answer import MAX_ANSWER_BYTES, CloudFailed, read_answer
from engines.cloud.credentials import read_token, ssl_reason, tls_context
from engines.manifest import Manifest, read_manifest
from engines.preprocess import normalise, restore

PATH: Final = "/api/v1/analyze"
CONNECT_S: Final = 2.0
"""The most for reaching the cloud, and again for TLS: a machine that is there answers in a few round trips."""
READ_S: Final = 15.0
"""The most for the whole answer, where the caller would wait longer."""
OF_TIME_GIVEN: Final = 0.9
"""Share of the time given that each step may use, so that what went wrong is known here. The whole is bounded by the
agent, which ends this process at its deadline, whatever a step does."""
AT_ONCE: Final = 4
"""Requests on their way at one time, where captures wait together."""
_KEEP_S: Final = 20.0
"""How long an unused connection is believed in: longer silence is what routers forget connections by."""
_PNG_LEVEL: Final = 3
_REFUSED: Final = {
    401: "does not know this device: check the certificate or the token in [cloud]",
    403: "forbids this device to ask: have the cloud's side allow it",
    404: f"has nothing at {PATH}: check cloud.url",
    413: "finds the picture too large",
    429: "is asked too often",
}


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """``[S, S, 3]`` uint8 RGB as a PNG that holds pixels and nothing else."""
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not done:
        raise CloudFailed("the picture could not be packed for the cloud")
    return data.tobytes()


class Cloud:
    """A client of one cloud; its connections are kept for a short while between pictures."""

    def __init__(
        self, client: httpx.Client, manifest: Manifest, clinic_id: str, connect_s: float, read_s: float
    ) -> None:
        self._client, self._manifest, self._clinic_id = client, manifest, clinic_id
        self._connect_s, self._read_s = connect_s, read_s
        self._label = f"{manifest.name}/{manifest.version}"
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="cloud")

    def run(self, images: Images) -> Output:
        """Ask for images that are nobody's."""
        return self.run_for(images, (), self._read_s)

    def run_for(self, images: Images, patients: Patients, within_s: float) -> Output:
        """Ask the cloud, one request for each picture; the first failure is the whole run's.

        Raises:
            CloudFailed: see the module.
        """
        end = time.monotonic() + min(within_s * OF_TIME_GIVEN, self._read_s)
        pictures = restore(images, self._manifest.input)
        whose = patients or (None,) * len(pictures)
        if len(pictures) == 1:
            return self._ask(pictures[0], whose[0], end)
        asked = [self._pool.submit(self._ask, *pair, end) for pair in zip(pictures, whose, strict=True)]
        outputs = [future.result() for future in asked]
        return Output(
            np.concatenate([output.probabilities for output in outputs]),
            np.concatenate([output.attention for output in outputs]),
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _ask(self, picture: NDArray[np.uint8], patient: str | None, end: float) -> Output:
        image = base64.b64encode(encode_png(picture)).decode("ascii")
        body = {"image": image, "clinic_id": self._clinic_id, "patient_id": patient}
        left = end - time.monotonic()
        if left <= 0:
            raise CloudFailed("the cloud was not asked: no time was left")
        limits = httpx.Timeout(left, connect=min(self._connect_s, left), pool=left)
        try:
            with self._client.stream("POST", PATH, json=body, timeout=limits) as response:
                self._check_head(response)
                return read_answer(_body(response, end), self._label)
        except httpx.HTTPError as error:
            raise CloudFailed(_in_words(error)) from error

    @staticmethod
    def _check_head(response: httpx.Response) -> None:
        status = response.status_code
        if 300 <= status < 400:
            raise CloudFailed(f"the cloud redirects elsewhere ({status}), which is not followed: check cloud.url")
        if status != httpx.codes.OK:
            raise CloudFailed(f"the cloud {_REFUSED.get(status, 'failed' if status >= 500 else 'refused')} ({status})")
        if response.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise CloudFailed("the cloud's answer is not JSON: something else may stand in its place")
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise CloudFailed("the cloud's answer is packed, which was not asked for")


def _body(response: httpx.Response, end: float) -> bytes:
    """The body, bounded in bytes and in time: each part may come in time, and the whole never."""
    parts, size = [], 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise CloudFailed(f"the cloud's answer is larger than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > end:
            raise CloudFailed("the cloud's answer did not end in time")
    return b"".join(parts)


def _in_words(error: httpx.HTTPError) -> str:
    """What happened on the way there or back."""
    if isinstance(error, httpx.ConnectTimeout):
        return "the cloud could not be reached in time"
    if isinstance(error, httpx.TimeoutException):
        return "the cloud did not answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the cloud's certificate is not believed ({cause.verify_message.rstrip('.')})"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection to the cloud came about ({ssl_reason(cause)})"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "the cloud could not be reached (refused, broken off, or no such host or network)"
    return "the connection to the cloud broke off"


def open_backend(
    bundle: Path,
    *,
    url: str,
    clinic_id: str,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    token_file: str | None = None,
    connect_s: float = CONNECT_S,
    read_s: float = READ_S,
) -> Cloud:
    """A client that was not connected yet; the golden image does that.

    Args:
        bundle: the checked bundle's folder, for its manifest.
        url: ``https://HOST[:PORT]``, to which :data:`PATH` is added; ``http://`` for this very machine only.
        clinic_id: goes into every request.
        ca: PEM file of the authorities that are believed, instead of the system's.
        cert: PEM file of the device's certificate.
        key: PEM file of its key.
        token_file: file with a bearer token; read anew with each start.
        connect_s: the most for connecting.
        read_s: the most for an answer.

    Raises:
        CloudFailed: a file cannot be used.
        BundleError: the manifest cannot be used, or its pictures cannot be undone from the network's input.
    """
    manifest = read_manifest(bundle)
    every = np.arange(256, dtype=np.uint8)
    square = np.resize(np.stack([every] * 3, axis=-1), (manifest.input.size, manifest.input.size, 3))
    if not np.array_equal(restore(normalise(square, manifest.input), manifest.input)[0], square):
        raise BundleError(f"{bundle}: its mean and std are such that pictures cannot be sent; leave out the cloud rung")
    headers = {"User-Agent": "dermascan-edge", "Accept": "application/json", "Accept-Encoding": "identity"}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(token_file)}"
    client = httpx.Client(
        base_url=url,
        headers=headers,
        verify=tls_context(ca, cert, key) if url.startswith("https:") else False,
        follow_redirects=False,
        trust_env=False,  # no proxy and no password that merely lie about in the environment
        limits=httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=_KEEP_S),
    )
    return Cloud(client, manifest, clinic_id, connect_s, read_s)
