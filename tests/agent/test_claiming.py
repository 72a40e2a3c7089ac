"""A claim that is not there yet: what may begin, and what waits for it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import analysts, claiming
from agent.claiming import AlreadyEnded, Claiming
from agent.intake.reasons import Reason, Rejection
from agent.records.store import Claim, ClaimOutcome, Store, StoreFull
from engines.ladder import Ladder
from tests.agent.test_daemon import picture, until
from tests.faults.running import running

WriteConfig = Callable[..., Path]
NEW = Claim("scan-1", ClaimOutcome.NEW, 1)


def kept(claim: Claim) -> Future[Claim]:
    future: Future[Claim] = Future()
    future.set_result(claim)
    return future


def refused(error: Exception) -> Future[Claim]:
    future: Future[Claim] = Future()
    future.set_exception(error)
    return future


def test_it_is_begun_once_and_told_again_and_again() -> None:
    begun = [kept(NEW)]
    one = Claiming("scan-1", begun.pop)
    assert not begun
    assert [one.durable() for _ in range(3)] == [NEW] * 3


def test_a_refused_one_is_begun_again_where_it_is_asked_for_again() -> None:
    begun = [kept(NEW), refused(StoreFull("no room")), refused(StoreFull("no room"))]
    one = Claiming("scan-1", begun.pop)
    for _ in range(2):
        with pytest.raises(StoreFull):
            one.durable()
    assert one.durable() == NEW


@pytest.mark.fault("F23")
def test_a_picture_whose_claim_is_refused_is_let_go_at_once() -> None:
    def carry() -> weakref.ref[object]:
        picture = np.zeros(1000)
        with pytest.raises(StoreFull):
            Claiming("scan-1", lambda: refused(StoreFull("no room"))).settle()
        return weakref.ref(picture)

    gc.collect()
    gc.disable()
    try:
        assert carry()() is None
    finally:
        gc.enable()


def test_what_has_ended_before_is_told_each_time() -> None:
    one = Claiming("scan-1", lambda: kept(Claim("scan-1", ClaimOutcome.KNOWN, 1)))
    for _ in range(2):
        with pytest.raises(AlreadyEnded):
            one.settle()


@pytest.mark.parametrize(("more", "ends"), [(0, False), (1, True)])
def test_what_was_begun_too_often_is_refused_before_the_engine_hears_of_it(more: int, ends: bool) -> None:
    one = Claiming("scan-1", lambda: kept(Claim("scan-1", ClaimOutcome.RESUMED, claiming.MAX_CLAIMS + more)))
    entered = []

    @contextmanager
    def waiting() -> Iterator[None]:
        entered.append(1)
        yield

    if ends:
        with pytest.raises(Rejection) as rejection, one.before(waiting):
            pass
        assert rejection.value.reason is Reason.CRASHED_ANALYSIS
    else:
        with one.before(waiting):
            pass
    assert entered == [] if ends else [1]
    assert one.durable().attempts == claiming.MAX_CLAIMS + more


@pytest.mark.fault("F11")
def test_the_engine_does_not_begin_before_the_claim_is_on_the_disk(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that takes long to write: the picture is decoded meanwhile, and nothing more."""
    decoded, go_on, ran = threading.Event(), threading.Event(), threading.Event()
    claim, run, analyse = Store.claim, Ladder.run, analysts.analyse

    def slow_claim(store: Store, *args: object) -> Future[Claim]:
        real: Future[Claim] = claim(store, *args)  # type: ignore[arg-type]
        slow: Future[Claim] = Future()
        threading.Thread(target=lambda: (go_on.wait(20), slow.set_result(real.result()))).start()
        return slow

    def told_run(*args: object, **more: object) -> object:
        ran.set()
        return run(*args, **more)  # type: ignore[arg-type]

    def told_analyse(capture: object, setting: object, scan_id: object, sidecar: object, waiting: object) -> object:
        def entered() -> object:
            decoded.set()
            return waiting()  # type: ignore[operator]

        return analyse(capture, setting, scan_id, sidecar, entered)  # type: ignore[arg-type]

    with running(write_config()) as (daemon, commits):
        assert daemon.wait_ready(30)
        monkeypatch.setattr(Store, "claim", slow_claim)
        monkeypatch.setattr(Ladder, "run", told_run)
        monkeypatch.setattr(analysts, "analyse", told_analyse)
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        assert decoded.wait(10)
        assert not ran.wait(0.3)
        go_on.set()
        assert commits.wait(lambda by_name: "a.png" in by_name)["a.png"].answer is not None
    assert ran.is_set()


@pytest.mark.fault("F06")
def test_a_claim_that_finds_no_room_is_made_when_there_is_some_and_its_answer_is_in_time(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that the full disk took is no time of the engine's: it would be stopped as if it hung."""
    monkeypatch.setattr(analysts, "FULL_RETRY_S", 0.2)
    claim, run = Store.claim, Ladder.run
    refusals, given = [StoreFull("no room")] * 4, []

    def full(store: Store, *args: object) -> Future[Claim]:
        return refused(refusals.pop()) if refusals else claim(store, *args)  # type: ignore[arg-type]

    def told_run(ladder: Ladder, images: object, left_s: float, *more: object) -> object:
        given.append(left_s)
        return run(ladder, images, left_s, *more)  # type: ignore[arg-type]

    with running(write_config()) as (daemon, commits):
        assert daemon.wait_ready(30)
        monkeypatch.setattr(Store, "claim", full)
        monkeypatch.setattr(Ladder, "run", told_run)
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        answer = commits.wait(lambda by_name: "a.png" in by_name)["a.png"].answer
        deadline_s = daemon.config.inference.deadline_s
    assert not refusals
    assert len(given) == 1
    assert given[0] > 0.8 * deadline_s
    assert answer.latency_ms < 0.8e3


@pytest.mark.fault("F04")
def test_a_picture_that_is_no_good_and_has_ended_before_stays_as_it_ended(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    black = cv2.imencode(".png", np.zeros((240, 320, 3), np.uint8))[1].tobytes()
    with running(write_config()) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(black)
        first = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
        assert first.reason is Reason.BLANK
        (tmp_path / "scope-1" / "b.png").write_bytes(black)
        until(lambda: len(daemon.store.known("scope-1")) == 2, "the second sighting")
        assert daemon.store.counts().rejected == 1
    assert [finished.scan_id for finished in commits.seen] == [first.scan_id]
