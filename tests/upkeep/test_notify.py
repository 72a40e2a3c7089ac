"""The service manager is told the truth: ready when we are, alive only while every part is (F25)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.upkeep.notify import LONGEST_STATUS, Notifier, Watchdog, attend
from agent.upkeep.progress import Pulse


class Manager:
    """A fake service manager: the socket that the agent is told of."""

    def __init__(self, path: Path | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"@dermascan-test-{os.getpid()}-{id(self)}"
        self._socket.bind(str(path) if path else "\0" + name[1:])
        self.address = str(path) if path else name
        self._socket.settimeout(5.0)
        self.close = self._socket.close

    def heard(self) -> str:
        return self._socket.recv(4096).decode()

    def all_so_far(self) -> list[str]:
        self._socket.setblocking(False)
        words = []
        try:
            while True:
                words.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            self._socket.settimeout(5.0)
            return words


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify" if request.param == "path" else None)
    yield found
    found.close()


def test_each_word_arrives(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready()
    notifier.status("two\nlines")
    notifier.status("two\nlines")
    notifier.alive()
    notifier.stopping()
    assert manager.all_so_far() == ["READY=1", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1"]


def test_a_long_status_is_cut(manager: Manager) -> None:
    Notifier(manager.address).status("x" * 9000)
    assert manager.heard() == "STATUS=" + "x" * LONGEST_STATUS


def test_a_terminal_hears_nothing_and_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(None).ready()
    gone = Notifier(str(tmp_path / "gone"))
    gone.ready()
    gone.alive()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_manager_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    deaf = Manager(tmp_path / "deaf")
    notifier = Notifier(deaf.address)
    for _ in range(2000):
        notifier.alive()
    deaf.close()


def test_the_environment_says_where_and_how_often_and_is_not_handed_on() -> None:
    env = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    notifier = Notifier.from_environment(env)
    assert notifier.watchdog_s == 30.0
    assert env == {"PATH": "/bin"}
    assert Notifier.from_environment({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({"WATCHDOG_USEC": "0"}).watchdog_s is None
    assert Notifier.from_environment({"WATCHDOG_USEC": "soon"}).watchdog_s is None


@pytest.mark.fault("F25")
@pytest.mark.parametrize("part", ["intake", "store", "worker", "sync"])
def test_one_part_that_stands_still_stops_the_watchdog(part: str, tmp_path: Path) -> None:
    manager, clock = Manager(tmp_path / "notify"), Clock()
    pulses = {name: Pulse(clock) for name in ("intake", "store", "worker", "sync")}
    sources = {name: pulse.beating for name, pulse in pulses.items()}
    watchdog = Watchdog(sources, 60.0, notifier=Notifier(manager.address), clock=clock)
    for _ in range(10):
        clock.now += 30
        for pulse in pulses.values():
            pulse.beat()
        assert watchdog.feed()
    assert manager.all_so_far() == ["WATCHDOG=1"] * 10
    for _ in range(10):
        clock.now += 30
        for name, pulse in pulses.items():
            if name != part:
                pulse.beat()
        watchdog.feed()
    assert watchdog.wedged() == (part,)
    assert manager.all_so_far() == ["WATCHDOG=1"] * 2 + [f"STATUS=wedged: {part}"]
    pulses[part].beat()
    assert watchdog.feed()
    manager.close()


@pytest.mark.fault("F25")
def test_a_part_that_cannot_say_how_it_goes_is_wedged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise RuntimeError("gone")

    watchdog = Watchdog({"store": broken}, 60.0, notifier=Notifier(None))
    assert not watchdog.feed()
    assert not watchdog.feed()
    assert sum("cannot say" in record.message for record in caplog.records) == 1


@pytest.fixture
def attending(tmp_path: Path) -> Iterator[tuple[Manager, threading.Event, Callable[..., threading.Thread]]]:
    manager, stop = Manager(tmp_path / "notify"), threading.Event()
    threads: list[threading.Thread] = []

    def begin(ready: Callable[[], bool], *, watchdog_s: float = 0.06, ready_within_s: float = 30.0) -> threading.Thread:
        notifier = Notifier(manager.address, watchdog_s)
        watchdog = Watchdog({}, 60.0, notifier=notifier)
        thread = threading.Thread(
            target=attend, args=(stop, notifier, watchdog), kwargs={"ready": ready, "ready_within_s": ready_within_s}
        )
        threads.append(thread)
        thread.start()
        return thread

    yield manager, stop, begin
    stop.set()
    for thread in threads:
        thread.join(10)
    manager.close()


def test_ready_is_said_once_when_an_engine_is(
    attending: tuple[Manager, threading.Event, Callable[..., threading.Thread]],
) -> None:
    manager, stop, begin = attending
    engine = threading.Event()
    thread = begin(engine.is_set)
    assert manager.heard().startswith("STATUS=starting")
    for _ in range(5):
        assert manager.heard() == "WATCHDOG=1"
    engine.set()
    heard = [manager.heard() for _ in range(8)]
    assert "READY=1" in heard
    assert "STATUS=watching" in heard
    stop.set()
    thread.join(10)
    rest = manager.all_so_far()
    assert "READY=1" not in rest
    assert rest[-2:] == ["STATUS=stopping", "STOPPING=1"]


def test_an_engine_that_never_comes_keeps_nobody_from_taking_captures_in(
    attending: tuple[Manager, threading.Event, Callable[..., threading.Thread]],
) -> None:
    manager, _, begin = attending
    begin(lambda: False, ready_within_s=0.0)
    heard = [manager.heard() for _ in range(4)]
    assert heard[1] == "READY=1"
    assert any("no engine has passed" in word for word in heard)


@pytest.mark.fault("F25")
def test_a_main_thread_that_hangs_is_silent(
    attending: tuple[Manager, threading.Event, Callable[..., threading.Thread]],
) -> None:
    manager, _, begin = attending
    hang, hangs = threading.Event(), threading.Event()
    looked = 0

    def ready() -> bool:
        nonlocal looked
        looked += 1
        if looked > 3:
            hangs.set()
            hang.wait()
        return False

    begin(ready)
    assert hangs.wait(5)
    manager.all_so_far()
    assert not threading.Event().wait(0.3)  # five watchdog periods
    assert manager.all_so_far() == []
    hang.set()
