"""Bad clients: huge bodies, slow ones, too many at once, bytes that are no request; everyone else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from agent.web import guard, shell
from tests.web.conftest import asking, picture, problem
from tests.web.running import run
from tests.web.serve import Served, serving


def connect(served: Served) -> socket.socket:
    place = urlsplit(served.address)
    connection = socket.create_connection((place.hostname or "", place.port or 0), timeout=15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(served: Served, client: httpx.Client, method: str, path: str, *lines: str) -> bytes:
    own = (f"Host: {urlsplit(served.address).netloc}", f"Authorization: {client.headers['authorization']}")
    return ("\r\n".join((f"{method} {path} HTTP/1.1", *own, *lines)) + "\r\n\r\n").encode()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the answer; the connection's end is its end."""
    received = b""
    while part := connection.recv(65536):
        received += part
        start, _, body = received.partition(b"\r\n\r\n")
        lengths = [line for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if lengths and len(body) >= (length := int(lengths[0].partition(b":")[2])):
            return int(start.split()[1]), json.loads(body[:length])
    raise AssertionError(f"no whole answer came: {received[:200]!r}")


def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.requirement("R-SEC-6")
def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(clinician: httpx.Client, served: Served) -> None:
    before = rss_mb()
    with connect(served) as connection:
        lines = ("Content-Type: application/json", f"Content-Length: {1 << 30}")
        connection.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines))
        status, document = answer_of(connection)
    assert (status, document["type"]) == (413, "urn:dermascan:problem:too-large")
    assert "32 MB" in document["detail"]
    with connect(served) as connection:  # one that does not wait to be asked gets the same answer
        connection.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines))
        sent = 0
        try:
            while sent < 16 << 20:
                sent += connection.send(b"x" * 65536)
        except OSError:
            pass
        assert answer_of(connection)[0] == 413
    assert rss_mb() - before < 24


@pytest.mark.requirement("R-SEC-6")
def test_a_body_without_a_length_is_bounded_too(clinician: httpx.Client, served: Served) -> None:
    def endless() -> Any:
        for _ in range(40):
            yield b"x" * (1 << 20)

    headers = {"Content-Type": "application/json"}
    with connect(served) as connection:
        lines = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        connection.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines))
        try:
            for part in endless():
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        except OSError:
            pass
        assert answer_of(connection)[0] == 413
    small = clinician.post("/api/v1/session", content=b'{"token": "' + b"x" * 70_000 + b'"}', headers=headers)
    problem(small, 413, "too-large")


@pytest.mark.parametrize("length", ["-1", "abc", "1e9", "9" * 30])
def test_a_length_that_is_none_is_refused(clinician: httpx.Client, served: Served, length: str) -> None:
    with connect(served) as connection:
        lines = ("Content-Type: application/json", f"Content-Length: {length}")
        connection.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines))
        status, document = answer_of(connection)
    assert status in {400, 413}
    assert document["status"] == status


@pytest.mark.requirement("R-SEC-6")
def test_all_bodies_together_are_bounded(clinician: httpx.Client, served: Served) -> None:
    """Two of 20 MB at once are more than 32 MB: the second is told to wait, and the first goes on."""
    size = 20 << 20
    lines = ("Content-Type: application/json", f"Content-Length: {size}")
    with connect(served) as first, connect(served) as second:
        first.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines) + b"{")
        end = time.monotonic() + 10
        while not served.daemon._web._server._app._reserved and time.monotonic() < end:  # type: ignore[union-attr]
            time.sleep(0.01)
        second.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines) + b"{")
        status, document = answer_of(second)
        assert (status, document["type"]) == (503, "urn:dermascan:problem:busy")
        first.sendall(b" " * (size - 1))
        assert answer_of(first)[0] == 400, "it was read whole"
    assert clinician.post("/api/v1/analyze", json=asking(picture(90))).status_code == 200


def test_a_header_that_does_not_come_is_not_waited_for(
    served: Served, clinician: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEADER_S", 0.3)
    begun = time.monotonic()
    with connect(served) as silent, connect(served) as slow:
        slow.sendall(b"GET /healthz HT")
        for connection in (silent, slow):
            status, document = answer_of(connection)
            assert (status, document["type"]) == (408, "urn:dermascan:problem:too-slow")
            assert connection.recv(1) == b""
    assert time.monotonic() - begun < 5


@pytest.mark.requirement("R-SEC-6")
def test_a_header_that_drips_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEADER_S", 0.5)
    with connect(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 10:
                connection.sendall(b"X-Drip: 1\r\n")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - begun < 8


@pytest.mark.requirement("R-SEC-6")
def test_a_body_that_drips_is_ended_and_its_room_given_back(
    served: Served, clinician: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BODY_START_S", 0.4)
    with connect(served) as connection:
        lines = ("Content-Type: application/json", f"Content-Length: {30 << 20}")
        connection.sendall(head(served, clinician, "POST", "/api/v1/analyze", *lines) + b"{")
        begun = time.monotonic()
        status, document = answer_of(connection)
        assert (status, document["type"]) == (408, "urn:dermascan:problem:too-slow")
        assert time.monotonic() - begun < 5
    assert clinician.post("/api/v1/analyze", json=asking(picture(91))).status_code == 200


def test_one_who_does_not_take_the_answer_is_let_go(
    served: Served, clinician: httpx.Client, monkeypatch: pytest.MonkeyPatch, answered: dict[str, Any]
) -> None:
    monkeypatch.setattr(shell, "SEND_S", 0.3)
    monkeypatch.setattr("agent.web.views.CHUNK", 16 * 1024)
    big = clinician.post("/api/v1/analyze", json=asking(picture(92, (2048, 1536)))).json()
    app = served.daemon._web._server._app  # type: ignore[union-attr]
    with connect(served) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for _ in range(3):
            connection.sendall(head(served, clinician, "GET", f"/api/v1/scans/{big['scan_id']}/image"))
        end = time.monotonic() + 10
        while app._in_flight and time.monotonic() < end:
            time.sleep(0.02)
        assert app._in_flight == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_are_answered_and_closed(served: Served, data: bytes) -> None:
    with connect(served) as connection:
        connection.sendall(data)
        status, document = answer_of(connection)
        assert status in {400, 421}
        assert document["type"].startswith("urn:dermascan:problem:")


def test_a_header_that_is_too_large_is_said_so(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * (guard.HEADER_BYTES + 10))
        assert answer_of(connection)[0] == 431


def test_a_web_socket_is_not_opened(served: Served, clinician: httpx.Client) -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    with connect(served) as connection:
        connection.sendall(head(served, clinician, "GET", "/api/v1/events", *lines))
        connection.settimeout(10)
        assert connection.recv(12) in {b"HTTP/1.1 200", b"HTTP/1.1 400"}


def flood(address: str, request: bytes, count: int) -> tuple[dict[int, int], float]:
    """Open ``count`` connections as fast as they can be opened, with a request on each; the answers' statuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 1000)), hard))
    return run(_flood(address, request, count))


async def _flood(address: str, request: bytes, count: int) -> tuple[dict[int, int], float]:
    place = urlsplit(address)
    statuses: dict[int, int] = {}
    longest = 0.0

    async def one() -> None:
        nonlocal longest
        begun = time.monotonic()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(place.hostname, place.port), 25)
        except (OSError, asyncio.TimeoutError):
            statuses[0] = statuses.get(0, 0) + 1
            return
        try:
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), 25)
            status = int(line.split()[1]) if line else 0
        except (OSError, asyncio.TimeoutError):
            status = 0
        statuses[status] = statuses.get(status, 0) + 1
        longest = max(longest, time.monotonic() - begun)
        writer.close()

    await asyncio.gather(*(one() for _ in range(count)))
    return statuses, longest


def drown(served: Served, clinician: httpx.Client, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 1000)), hard))
    body = json.dumps(asking(picture(93))).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    request = head(served, clinician, "POST", "/api/v1/analyze", *lines) + body
    before = rss_mb()
    done = served.drop(f"during-{count}.jpg", count, 320, 240, about={"patient_id": f"P-{count}"})
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:  # its memory is not ours
        statuses, _ = elsewhere.submit(flood, served.address, request, count).result()
    assert sum(statuses.values()) == count
    assert set(statuses) <= {0, 200, 408, 429, 503}, statuses
    assert statuses.get(200, 0) >= 1
    assert statuses.get(0, 0) <= count * 0.2, statuses
    assert rss_mb() - before < 150
    assert clinician.get("/healthz").status_code == 200
    end = time.monotonic() + 10
    while time.monotonic() < end:
        scans = clinician.get("/api/v1/scans", params={"limit": 200}).json()["scans"]
        if any(one["patient_id"] == f"P-{count}" and one["state"] == "answered" for one in scans):
            break
        time.sleep(0.05)
    else:
        raise AssertionError(f"{done.name} was not answered")


@pytest.mark.requirement("R-SEC-6")
def test_two_thousand_requests_at_once_are_answered_or_told_to_come_again(
    served: Served, clinician: httpx.Client
) -> None:
    drown(served, clinician, 2000)


@pytest.mark.long
@pytest.mark.requirement("R-SEC-6")
def test_ten_thousand_requests_at_once_are_answered_or_told_to_come_again(
    served: Served, clinician: httpx.Client
) -> None:
    drown(served, clinician, 10_000)


def test_a_fault_of_ours_is_a_document_without_its_insides(
    clinician: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from agent.web import status

    def broken(_: object) -> None:
        raise RuntimeError("CANARY-PATIENT in the text")

    monkeypatch.setattr(status, "status_now", broken)
    response = clinician.get("/api/v1/status")
    document = problem(response, 500, "internal")
    assert "CANARY" not in json.dumps(document)
    assert "CANARY" not in caplog.text
    until(lambda: "RuntimeError at " in caplog.text)
    assert "CANARY" not in caplog.text


def test_every_answer_carries_what_keeps_browsers_from_harm(stranger: httpx.Client) -> None:
    for path in ("/", "/page/main.js", "/api/v1/scans", "/nothing", "/healthz"):
        headers = stranger.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers
    assert stranger.get("/api/v1/scans").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "css", "css/", "", ".", "nothing.js", "%00"]
)
def test_no_path_leads_out_of_the_pages_folder(stranger: httpx.Client, served: Served, path: str) -> None:
    with connect(served) as connection:
        connection.sendall(f"GET /page/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert answer_of(connection)[0] == 404


def test_an_agent_whose_port_is_taken_answers_its_folders_and_takes_the_port_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from agent.upkeep import rounds

    monkeypatch.setattr(rounds, "UPKEEP_S", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = serving(tmp_path, port=port)
        served = running.__enter__()
        try:
            assert "there is no page" in caplog.text
            served.drop("a.jpg", 95, 320, 240)
            end = time.monotonic() + 20
            while not served.daemon.store.counts().answered and time.monotonic() < end:
                time.sleep(0.05)
            assert served.daemon.store.counts().answered == 1
            taken.close()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                while time.monotonic() < end:
                    try:
                        assert client.get("/healthz").json() == {"alive": True}
                        break
                    except httpx.ConnectError:
                        time.sleep(0.05)
                else:
                    raise AssertionError("it did not take the port")
        finally:
            running.__exit__(None, None, None)
