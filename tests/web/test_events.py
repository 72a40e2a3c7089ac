"""Server-sent events: order, what each role hears, a client that comes again, one that does not listen, too many."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from agent.records import listing
from agent.web import broadcast
from agent.web.broadcast import CLIENTS, QUEUE, Broadcast, Client, News
from tests.web.conftest import asking, picture, problem
from tests.web.running import run
from tests.web.serve import Served

Event = dict[str, str]


class Listener:
    """An open stream, read on a thread of its own."""

    def __init__(self, client: httpx.Client, headers: dict[str, Any] | None = None) -> None:
        self.heard: list[Event] = []
        self._changed = threading.Condition()
        self._stream = client.stream("GET", "/api/v1/events", headers=headers, timeout=30)
        self.response = self._stream.__enter__()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        event: Event = {}
        try:
            for line in self.response.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                elif "event" in event:
                    with self._changed:
                        self.heard.append(event)
                        self._changed.notify_all()
                    event = {}
                else:
                    event = {}
        except (httpx.HTTPError, httpx.StreamError):
            pass

    def wait(self, condition: Callable[[list[Event]], bool], timeout_s: float = 15) -> list[Event]:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.heard), timeout_s), self.heard
            return list(self.heard)

    def of(self, name: str) -> list[Any]:
        return [json.loads(event["data"]) for event in self.heard if event["event"] == name]

    def close(self) -> None:
        with suppress(OSError):  # a close alone would wait for the next event
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.response.close()


@contextmanager
def listening(client: httpx.Client, headers: dict[str, Any] | None = None) -> Iterator[Listener]:
    listener = Listener(client, headers)
    try:
        yield listener
    finally:
        listener.close()


def of_scan(heard: list[Event], scan_id: str) -> list[str]:
    """The names of the events about a scan, in their order; others' late news may lie between."""
    about = [(event["event"], json.loads(event["data"])) for event in heard if event["event"] in {"scan", "verdict"}]
    return [name for name, data in about if data["scan_id"] == scan_id]


def test_a_scan_and_its_verdict_are_told_in_order_with_rising_ids(clinician: httpx.Client) -> None:
    with listening(clinician) as listener:
        assert listener.response.headers["content-type"].startswith("text/event-stream")
        listener.wait(lambda heard: any(one["event"] == "status" for one in heard))
        answer = clinician.post("/api/v1/analyze", json=asking(picture(80))).json()
        verdict = clinician.post(
            f"/api/v1/scans/{answer['scan_id']}/verdicts", json={"diagnosis": "melanoma", "source": "clinician"}
        ).json()
        heard = listener.wait(lambda heard: "verdict" in of_scan(heard, answer["scan_id"]))
        assert of_scan(heard, answer["scan_id"]) == ["scan", "verdict"]
        (scan,) = [one for one in listener.of("scan") if one["scan_id"] == answer["scan_id"]]
        listed = clinician.get("/api/v1/scans", params={"limit": 1}).json()["scans"][0]
        assert {**listed, "verdict": None} == {**scan, "verdict": None}
        assert {"scan_id": answer["scan_id"], "verdict": verdict} in listener.of("verdict")
        numbers = [int(one["id"].rpartition("-")[2]) for one in heard if "id" in one]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_scan_that_takes_long_to_read_is_still_told_before_its_verdict(
    clinician: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = listing.one
    told = threading.Event()

    def slow(*args: Any) -> Any:
        told.wait(1)
        return one(*args)

    with listening(clinician) as listener:
        monkeypatch.setattr(listing, "one", slow)
        scan_id = clinician.post("/api/v1/analyze", json=asking(picture(9086))).json()["scan_id"]
        served.daemon.store.verdict(scan_id, "dermatofibroma", "histopathology", "a shell").result(10)
        with suppress(AssertionError):
            listener.wait(lambda heard: "verdict" in of_scan(heard, scan_id), timeout_s=0.3)
        told.set()
        heard = listener.wait(lambda heard: {"scan", "verdict"} <= set(of_scan(heard, scan_id)))
    assert of_scan(heard, scan_id) == ["scan", "verdict"]


def test_a_verdict_from_the_shell_is_told_too(clinician: httpx.Client, served: Served, make_answer: Any) -> None:
    scan_id = make_answer(81)
    with listening(clinician) as listener:
        served.daemon.store.verdict(scan_id, "dermatofibroma", "histopathology", "a shell").result(10)
        listener.wait(lambda heard: "verdict" in of_scan(heard, scan_id))
        (told,) = [one["verdict"] for one in listener.of("verdict") if one["scan_id"] == scan_id]
        assert told["by"] == "a shell"


@pytest.mark.fault("F30")
def test_a_technician_hears_of_no_patient(clinician: httpx.Client, technician: httpx.Client) -> None:
    with listening(technician) as listener:
        body = asking(picture(82), patient_id="CANARY-7", body_site="CANARY-SITE")
        scan_id = clinician.post("/api/v1/analyze", json=body).json()["scan_id"]
        verdict = {"diagnosis": "melanoma", "source": "clinician", "note": "CANARY-NOTE"}
        clinician.post(f"/api/v1/scans/{scan_id}/verdicts", json=verdict)
        heard = listener.wait(lambda heard: "verdict" in of_scan(heard, scan_id))
    assert "CANARY" not in json.dumps(heard)


def test_who_comes_again_hears_what_was_missed(clinician: httpx.Client, make_answer: Any) -> None:
    with listening(clinician) as listener:
        scan_id = make_answer(83)
        last = listener.wait(lambda heard: "scan" in of_scan(heard, scan_id))[-1]["id"]
    missed = [make_answer(84), make_answer(85)]
    with listening(clinician, {"Last-Event-ID": last}) as listener:
        listener.wait(lambda heard: sum(one["event"] == "scan" for one in heard) == 2)
        assert [one["scan_id"] for one in listener.of("scan")] == missed
        assert listener.of("reload") == []


@pytest.mark.parametrize("last", ["", "x", "17", "deadbeef-3", "deadbeef-99999999999999999999", "-", "ü-1"])
def test_who_was_away_too_long_is_told_to_ask_for_everything(clinician: httpx.Client, last: str) -> None:
    with listening(clinician, {"Last-Event-ID": last.encode()}) as listener:
        heard = listener.wait(bool)
        assert heard[0]["event"] == ("reload" if last else "status")


def test_an_answer_is_told_soon_after_its_commit(clinician: httpx.Client) -> None:
    with listening(clinician) as listener:
        listener.wait(bool)
        scan_id = clinician.post("/api/v1/analyze", json=asking(picture(86))).json()["scan_id"]
        begun = time.monotonic()
        listener.wait(lambda heard: "scan" in of_scan(heard, scan_id))
        assert time.monotonic() - begun < 2.0


def test_one_who_does_not_listen_costs_nobody_else_anything(clinician: httpx.Client, served: Served) -> None:
    place = urlsplit(served.address)
    deaf = socket.create_connection((place.hostname or "", place.port or 0))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {place.netloc}\r\n"
    deaf.sendall(f"{head}Authorization: {clinician.headers['authorization']}\r\n\r\n".encode())
    tell = served.daemon._web._here.broadcast.tell  # type: ignore[union-attr]
    with listening(clinician) as listener:
        listener.wait(bool)
        for number in range(2000):
            tell("scan", json.dumps({"number": number, "bulk": "x" * 4000}))
            if number % 20 == 0:
                time.sleep(0.001)
        tell("verdict", json.dumps({"last": True}))
        listener.wait(lambda heard: any(one["event"] in {"verdict", "reload"} for one in heard))
        assert clinician.get("/healthz").status_code == 200
    deaf.close()


def test_a_client_that_is_too_slow_is_told_to_ask_anew() -> None:
    async def scene() -> None:
        client = Client(patients=True)
        for number in range(QUEUE + 5):
            client.hear(News.of("scan", json.dumps(number)))
        told = (await client.next(1)).decode()
        assert told.startswith("event: reload")
        assert told.count("event: scan") == 4, "and hears what came after"

    run(scene())


def test_a_burst_goes_out_together_and_the_first_of_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "TOGETHER_S", 1.0)

    async def scene() -> None:
        desk = Broadcast()
        desk.belong_to(asyncio.get_running_loop())
        client = desk.open(patients=True, last_heard=None)
        assert client is not None

        async def burst() -> None:
            for number in range(6):
                desk.tell("scan", json.dumps(number))
                await asyncio.sleep(0.01)

        telling = asyncio.ensure_future(burst())
        assert (await client.next(10)).count(b"event: scan") == 1
        assert not telling.done(), "the first waited for the others"
        told = (await client.next(10)).decode()
        assert [line for line in told.splitlines() if line.startswith("data")] == [
            f"data: {one}" for one in range(1, 6)
        ]
        await telling
        desk.tell("scan", "6")
        await asyncio.sleep(0)
        desk.close()
        assert await client.next(10), "what still waits when the agent stops is told"

    run(scene())


def test_what_was_told_is_repeated_only_where_it_is_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        desk = Broadcast()
        desk.belong_to(asyncio.get_running_loop())
        for number in range(broadcast.REMEMBERED + 10):
            desk.tell("scan", json.dumps(number))
        await asyncio.sleep(0)
        run = desk._run
        for last, expected in ((broadcast.REMEMBERED, "scan"), (3, "reload"), (broadcast.REMEMBERED + 99, "reload")):
            client = desk.open(patients=True, last_heard=f"{run}{last}")
            assert client is not None
            assert (await client.next(1)).decode().startswith(f"event: {expected}")
        current = desk.open(patients=True, last_heard=f"{run}{broadcast.REMEMBERED + 10}")
        assert current is not None
        assert await current.next(0.01) == b""

    run(scene())


def test_beyond_64_pages_one_is_told_that_there_are_too_many(clinician: httpx.Client, served: Served) -> None:
    desk = served.daemon._web._here.broadcast  # type: ignore[union-attr]
    end = time.monotonic() + 10
    while desk.clients and time.monotonic() < end:
        time.sleep(0.02)
    place = urlsplit(served.address)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {place.netloc}\r\n"
    request = f"{head}Authorization: {clinician.headers['authorization']}\r\n\r\n".encode()
    open_ones = []
    try:
        for _ in range(CLIENTS):
            one = socket.create_connection((place.hostname or "", place.port or 0))
            one.sendall(request)
            assert one.recv(12) == b"HTTP/1.1 200"
            open_ones.append(one)
        response = clinician.get("/api/v1/events")
        problem(response, 503, "busy")
        assert int(response.headers["retry-after"]) > 0
        assert clinician.get("/api/v1/scans").status_code == 200, "everything else goes on"
    finally:
        for one in open_ones:
            one.close()
    end = time.monotonic() + 15
    while desk.clients and time.monotonic() < end:
        time.sleep(0.02)
    assert desk.clients == 0, "who is gone has left"
