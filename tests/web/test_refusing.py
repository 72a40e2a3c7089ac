"""Who is refused again and again waits for it, and holds up nobody else meanwhile."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from agent.web.app import _problem
from agent.web.problems import BUSY, INVALID, Problem
from agent.web.refusing import LEAST_AT_ONCE, LEAST_PER_S, LONGEST_S, SHARE, WAITING, SlowRefusals
from agent.web.shell import Bounds, Hosts, Shell
from tests.web.running import run
from tests.web.serve import serving

PER_S = 40.0
BODY = 1 << 20


class Time:
    """Stands still, and writes down the pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return 1000.0

    async def pause(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))


@pytest.mark.requirement("R-SEC-6")
def test_a_few_are_refused_at_once_and_more_one_after_the_other() -> None:
    time_ = Time()
    slow = SlowRefusals(PER_S, time_, time_.pause)

    async def refuse(status: int, address: str, times: int) -> list[float]:
        time_.pauses.clear()
        for _ in range(times):
            await slow.wait(status, address)
        return list(time_.pauses)

    assert run(refuse(422, "a", int(PER_S))) == []
    step = 1 / (SHARE * PER_S)
    assert run(refuse(429, "a", 4)) == [min(LONGEST_S, step * number) for number in (1, 2, 3, 4)]
    assert run(refuse(200, "a", 3)) == [], "what was done is told at once"
    assert run(refuse(500, "a", 3)) == [], "our own fault is no flood of theirs"
    assert run(refuse(503, "b", 3)) == [], "who came from elsewhere does not wait for them"


def test_a_person_who_mistypes_does_not_wait() -> None:
    time_ = Time()
    slow = SlowRefusals(0.1, time_, time_.pause)

    async def refuse() -> None:
        for _ in range(LEAST_AT_ONCE + 1):
            await slow.wait(401, "a")

    run(refuse())
    assert time_.pauses == [1 / LEAST_PER_S]


def test_no_more_wait_at_once_than_there_may_be_connections() -> None:
    async def flood() -> int:
        begun = asyncio.Event()

        async def pause(_: float) -> None:
            await begun.wait()

        slow = SlowRefusals(1.0, pause=pause)
        waiting = [asyncio.ensure_future(slow.wait(400, "a")) for _ in range(WAITING + 50)]
        await asyncio.sleep(0.01)
        at_once = sum(one.done() for one in waiting)
        begun.set()
        await asyncio.gather(*waiting)
        return at_once

    assert run(flood()) == 50, "those that may be, and those for whom there is no room to wait"


@pytest.mark.requirement("R-SEC-6")
def test_the_room_of_a_refusal_that_waits_is_anothers() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await Problem(INVALID, "no").response()(scope, receive, send)

    async def check() -> list[int]:
        at_it, go_on, statuses = asyncio.Event(), asyncio.Event(), list[int]()

        async def pause(_: float) -> None:
            at_it.set()
            await go_on.wait()

        slow = SlowRefusals(1.0, pause=pause)
        for _ in range(LEAST_AT_ONCE):
            await slow.wait(400, "there")  # those that go at once
        bounds, hosts = Bounds(BODY, BODY), Hosts("127.0.0.1", loopback=True, others=())
        shell = Shell(refuses, hosts, bounds, refusals=slow, observe=lambda _, status, __: statuses.append(status))
        headers = [(b"host", b"127.0.0.1"), (b"content-length", str(BODY).encode())]
        scope = {"type": "http", "path": "/api/v1/analyze", "query_string": b"", "headers": headers, "method": "POST"}
        scope["client"] = ("there", 1)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: Message) -> None:
            pass

        waiting = asyncio.ensure_future(shell(scope, receive, send))
        await asyncio.wait_for(at_it.wait(), 10)
        shell.reserve(BODY)  # raises where the refused one's is still taken
        shell.release(BODY)
        go_on.set()
        await waiting
        shell.reserve(BODY)
        with pytest.raises(Problem) as caught:
            shell.reserve(1)
        assert caught.value.kind is BUSY, "what was given back was given back once"
        return statuses

    assert run(check()) == [422]


def test_a_refusal_that_waits_holds_no_body() -> None:
    class Body(bytearray):
        pass

    def refuse(body: Body) -> None:
        try:
            int(body)
        except ValueError:
            raise Problem(INVALID, "no") from None

    def refused() -> tuple[Problem, weakref.ref[Body]]:
        body = Body(b"no number")
        with pytest.raises(Problem) as caught:
            refuse(body)
        return caught.value, weakref.ref(body)

    problem, body = refused()
    gc.collect()
    assert body() is not None, "its traceback holds it"
    run(_problem(None, problem))  # type: ignore[arg-type]
    gc.collect()
    assert body() is None


@pytest.mark.requirement("R-SEC-6")
def test_a_flood_is_slowed_down_and_who_asks_rightly_is_not(tmp_path: Path) -> None:
    with serving(tmp_path, more="requests_per_s = 20") as served:
        headers = {"Authorization": f"Bearer {served.token()}"}

        def bad(_: int) -> int:
            with httpx.Client(base_url=served.address, headers=headers, timeout=30, trust_env=False) as client:
                return client.post("/api/v1/analyze", json={"image": "?"}).status_code

        with ThreadPoolExecutor(30) as threads:
            began = time.monotonic()
            refused = [threads.submit(bad, number) for number in range(30)]
            statuses = [one.result() for one in refused]
            took_s = time.monotonic() - began
        assert set(statuses) <= {422, 429}
        assert took_s >= 1.0, "twenty at once, then one a second"
        with httpx.Client(base_url=served.address, trust_env=False) as client:
            began = time.monotonic()
            assert client.get("/healthz").status_code == 200
            assert time.monotonic() - began < took_s
