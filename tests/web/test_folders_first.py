"""Captures of the watched folders are answered in time, whatever is asked of the API meanwhile."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from agent.answer.scan import ScanState
from agent.carrying import Finished
from agent.priority import LAST, STEPS_BACK
from tests.web.conftest import asking, picture
from tests.web.serve import Served, serving
from tests.web.test_limits import connect, until

CAPTURES = 6
ASKING, DRIPPING, PUMPING = 40, 20, 4
PICTURES = 120
PROMISED_S = 3.0


class Crowd:
    """Clients of every bad kind at once, until they are told to stop."""

    def __init__(self, served: Served) -> None:
        self._served, self._stop = served, threading.Event()
        self._key = served.token()
        self._next = itertools.count()
        bodies = [asking(picture(1000 + seed)) for seed in range(PICTURES)]
        self._pictures = [json.dumps(one).encode() for one in bodies]  # beforehand: the agent shares our processor
        self.statuses: Counter[int] = Counter()
        self.dripped = self.pumped = 0
        works = [self._asks] * ASKING + [self._drips] + [self._pumps] * PUMPING
        self._threads = [threading.Thread(target=work, args=(number,)) for number, work in enumerate(works)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _head(self, length: int) -> bytes:
        lines = ("POST /api/v1/analyze HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self._key}")
        return "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {length}", "", "")).encode()

    def _asks(self, _: int) -> None:
        """Many: one picture after the other, each another one, as fast as they are answered or refused."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        with httpx.Client(base_url=self._served.address, headers=headers, timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                body = self._pictures[next(self._next) % PICTURES]
                with suppress(httpx.HTTPError):  # the agent stops before we do
                    status = client.post("/api/v1/analyze", content=body).status_code
                    if not self._stop.is_set():
                        self.statuses[status] += 1

    def _drips(self, _: int) -> None:
        """Slow: bodies that come byte by byte."""
        open_now: list[socket.socket] = []
        while not self._stop.wait(0.05):
            while len(open_now) < DRIPPING:
                connection = connect(self._served)
                connection.sendall(self._head(30 << 20))
                open_now.append(connection)
            for connection in list(open_now):
                try:
                    connection.sendall(b"x")
                    self.dripped += 1
                except OSError:
                    open_now.remove(connection)
                    connection.close()
        for connection in open_now:
            connection.close()

    def _pumps(self, _: int) -> None:
        """Large: a gigabyte is told, and sent without waiting for a word."""
        while not self._stop.is_set():
            with connect(self._served) as connection:
                try:
                    connection.sendall(self._head(1 << 30))
                    while not self._stop.is_set():
                        self.pumped += connection.send(b"x" * 65536)
                except OSError:
                    pass


@pytest.mark.requirement("R-SEC-6")
def test_large_slow_and_many_requests_delay_no_capture(tmp_path: Path) -> None:
    ended: dict[str, tuple[float, Finished]] = {}

    def note(one: Finished) -> None:
        ended[one.path.name] = (time.monotonic(), one)

    took = {}
    with serving(tmp_path, on_finished=note) as served:
        assert served.daemon.wait_ready(20)
        crowd = Crowd(served)
        crowd.start()
        try:
            until(lambda: crowd.statuses.total() >= 5 and crowd.dripped and crowd.pumped)
            for number in range(CAPTURES):
                name = f"folder-{number}.png"
                dropped = time.monotonic()
                served.drop(name, number, 320, 240)
                until(lambda name=name: name in ended)
                assert ended[name][1].state is ScanState.ANSWERED
                took[name] = ended[name][0] - dropped
        finally:
            crowd.stop()
    crowd.join()
    said = f"took {json.dumps(took)}, statuses {dict(crowd.statuses)}, {crowd.dripped} drops, {crowd.pumped >> 20} MB"
    print(said)
    assert max(took.values()) < PROMISED_S, said
    assert crowd.statuses[200] >= 1, said
    assert set(crowd.statuses) <= {200, 408, 429, 503}, said
    assert crowd.dripped > 100, said
    assert crowd.pumped > 1 << 20, said


def test_the_interfaces_threads_stand_back_behind_all_others(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        httpx.get(f"{served.address}/healthz").raise_for_status()
        nice = {
            thread.name: os.getpriority(os.PRIO_PROCESS, thread.native_id)
            for thread in threading.enumerate()
            if thread.native_id is not None
        }
    back = min(LAST, nice["MainThread"] + STEPS_BACK)
    of_the_web = {name: value for name, value in nice.items() if name == "web" or name.startswith("web_")}
    assert of_the_web
    assert set(of_the_web.values()) == {back}
    analysts = {value for name, value in nice.items() if name.startswith("analyst-")}
    assert analysts == {nice["MainThread"]}
