"""What is new, told to every open page: a bounded queue for each, so that a slow one is slow for itself alone.

Everything here but `Broadcast.tell` happens on the web's own loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CLIENTS: Final = 64
QUEUE: Final = 64
"""Events that wait for one client; beyond it is told to ask for everything anew."""
TOGETHER_S: Final = 0.1
"""The first news after a while goes out at once; what comes sooner after it than this goes out together. In a burst of
captures each news took a write for each open page, which slowed them by a tenth with fifty of these."""
REMEMBERED: Final = 256
"""Events for clients that come again and say what they heard last."""


@dataclass(frozen=True)
class News:
    """An event, as it goes on the wire for those who may see patients and for those who may not."""

    full: bytes
    discreet: bytes

    @classmethod
    def of(cls, name: str, full: str, discreet: str | None = None, event_id: str | None = None) -> News:
        """An event from its data, each one line of JSON."""
        head = f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "")
        ends = [f"{head}data: {data}\n\n".encode() for data in (full, full if discreet is None else discreet)]
        return cls(*ends)


RELOAD: Final = b"event: reload\ndata: {}\n\n"


class Client:
    """One open page."""

    def __init__(self, *, patients: bool) -> None:
        self._patients = patients
        self._queue: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self.closed = False

    def hear(self, news: News) -> None:
        """Tell it of an event at once."""
        self.put(news)
        self.wake()

    def put(self, news: News) -> None:
        """Put an event in the queue; where that is full, the client asks for everything anew instead."""
        if len(self._queue) >= QUEUE:
            self._queue.clear()
            self._queue.append(RELOAD)
        else:
            self._queue.append(news.full if self._patients else news.discreet)

    def wake(self) -> None:
        """Have what waits sent."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def reload(self) -> None:
        """Have it ask for everything anew."""
        self._queue.append(RELOAD)
        self.wake()

    def close(self) -> None:
        """No more comes."""
        self.closed = True
        self.wake()

    async def next(self, timeout_s: float) -> bytes:
        """What waits, together; empty where nothing did for so long, or no more comes."""
        if not self._queue and not self.closed:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(timeout_s, self.wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        found = b"".join(self._queue)
        self._queue.clear()
        return found


class Broadcast:
    """The open pages, and what was told last."""

    def __init__(self) -> None:
        self._run = f"{secrets.token_hex(4)}-"
        """Numbers begin anew with each start of the agent; this tells them apart."""
        self._number = 0
        self._clients: set[Client] = set()
        self._told: deque[tuple[int, News]] = deque(maxlen=REMEMBERED)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._woken_at = -TOGETHER_S
        self._waking: asyncio.TimerHandle | None = None

    def belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on everything is told on this loop."""
        self._loop = loop

    @property
    def clients(self) -> int:
        """How many are open."""
        return len(self._clients)

    def later(self, do: Callable[[], object]) -> None:
        """Do something on the loop, from any thread; nothing once it is closed."""
        if self._loop is not None and not self._closed:
            try:
                self._loop.call_soon_threadsafe(do)
            except RuntimeError:
                self._closed = True

    def tell(self, name: str, full: str, discreet: str | None = None) -> None:
        """Tell every page of something new, from any thread; what it was is remembered for a while."""
        self.later(lambda: self._tell(name, full, discreet))

    def tell_now(self, news: News) -> None:
        """Tell every page of something that is not remembered, as the next of its kind says it all."""
        for client in self._clients:
            client.put(news)
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_at(self._woken_at + TOGETHER_S, self._wake)

    def open(self, *, patients: bool, last_heard: str | None) -> Client | None:
        """A client more; None where there are too many. ``last_heard``: the id of the last event it knows."""
        if len(self._clients) >= CLIENTS or self._closed:
            return None
        client = Client(patients=patients)
        if last_heard is not None:
            self._repeat(client, last_heard)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """A client is gone."""
        self._clients.discard(client)

    def close(self) -> None:
        """End every stream; pages come again by themselves."""
        self._closed = True
        if self._waking is not None:
            self._waking.cancel()
        for client in self._clients:
            client.close()

    def _wake(self) -> None:
        self._waking = None
        self._woken_at = asyncio.get_running_loop().time()
        for client in self._clients:
            client.wake()

    def _tell(self, name: str, full: str, discreet: str | None) -> None:
        self._number += 1
        news = News.of(name, full, discreet, f"{self._run}{self._number}")
        self._told.append((self._number, news))
        self.tell_now(news)

    def _repeat(self, client: Client, last_heard: str) -> None:
        run, _, number = last_heard.rpartition("-")
        if f"{run}-" != self._run or not number.isascii() or not number.isdecimal() or len(number) > 18:
            client.reload()
            return
        missed = [news for count, news in self._told if count > int(number)]
        if len(missed) != max(0, self._number - int(number)) or len(missed) > QUEUE or int(number) > self._number:
            client.reload()
            return
        for news in missed:
            client.hear(news)
