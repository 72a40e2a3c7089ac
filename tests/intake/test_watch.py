"""The watch on a real folder: each case of F01 to F04 that was met in practice."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from inotify_simple import Event, INotify, flags

from agent.intake import entry as entry_module
from agent.intake import watch as watch_module
from agent.intake.capture import Arrival, Capture, FileStamp, Unusable
from agent.intake.folder_identity import MARKER
from agent.intake.reasons import Reason
from agent.intake.watch import FolderWatch
from tests.fakes.mutations import NOT_FILES, generated_sources, place_not_file

PICTURE, OTHER = generated_sources(2)
SOON_S = 5.0
"""Far more than anything here takes; what is measured is in the benchmark."""


class Watching:
    """A watch on a thread, and what it delivered."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.arrivals: list[Arrival] = []
        self.sidecars: list[Path] = []
        self.before_delivery: Callable[[Arrival], None] = lambda _arrival: None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        quick: dict[str, object] = {"settle_s": 0.2, "found_after_s": 0.05, "truncated_after_s": 0.6}
        self.watch = FolderWatch(
            folder, "scope-1", self._take, on_sidecar=self._take_sidecar, **{**quick, **options}  # type: ignore[arg-type]
        )  # fmt: skip
        self._thread: threading.Thread | None = None

    def _take(self, arrival: Arrival) -> None:
        self.before_delivery(arrival)
        with self._changed:
            self.arrivals.append(arrival)
            self._changed.notify_all()

    def _take_sidecar(self, path: Path) -> bool:
        with self._changed:
            self.sidecars.append(path)
            self._changed.notify_all()
        return True

    def start(self) -> Watching:
        """Run on a thread."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.watch.run, args=(self._stop,), daemon=True)
        self._thread.start()
        return self

    def settle(self) -> Watching:
        """Wait until the folder is watched, by a picture that is taken out again."""
        probe = self.folder / "probe.jpg"
        probe.write_bytes(PICTURE + b"probe")
        self.wait(lambda: any(arrival.path == probe for arrival in self.arrivals))
        probe.unlink()
        self.arrivals = [arrival for arrival in self.arrivals if arrival.path != probe]
        return self

    def wait(self, condition: Callable[[], bool], timeout_s: float = SOON_S) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"not in time; delivered: {self.paths()}"

    def count(self, number: int) -> list[Arrival]:
        self.wait(lambda: len(self.arrivals) >= number)
        return self.arrivals

    def paths(self) -> list[str]:
        return [os.fsencode(arrival.path.name).decode("utf-8", "replace") for arrival in self.arrivals]

    def stop(self) -> float:
        began = time.monotonic()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(SOON_S)
            assert not self._thread.is_alive()
            self._thread = None
        return time.monotonic() - began


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scope"
    path.mkdir()
    return path


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., Watching]]:
    made: list[Watching] = []

    def watching(**options: object) -> Watching:
        made.append(Watching(folder, **options))
        return made[-1]

    yield watching
    for one in made:
        one.stop()


@pytest.fixture
def live(make: Callable[..., Watching]) -> Watching:
    return make().start().settle()


def data_of(arrival: Arrival) -> bytes:
    assert isinstance(arrival, Capture), arrival
    return arrival.data


def believes(live: Watching) -> bool:
    return live.watch.believed


def rejection_of(arrival: Arrival) -> Reason:
    assert isinstance(arrival, Unusable), arrival
    return arrival.rejection.reason


@pytest.mark.fault("F01")
def test_a_closed_picture_is_delivered_at_once_and_once(live: Watching) -> None:
    path = live.folder / "a.jpg"
    began = time.monotonic()
    path.write_bytes(PICTURE)
    [arrival] = live.count(1)
    assert time.monotonic() - began < 1.0
    assert (data_of(arrival), arrival.path, arrival.dermoscope_id) == (PICTURE, path, "scope-1")
    assert isinstance(arrival, Capture)
    assert arrival.stable
    assert arrival.stamp == FileStamp.of(path.stat())
    (live.folder / "b.jpg").write_bytes(OTHER)
    live.count(2)
    assert live.paths() == ["a.jpg", "b.jpg"]


@pytest.mark.fault("F01")
def test_a_slow_writer_is_waited_for(live: Watching) -> None:
    with (live.folder / "slow.jpg").open("wb", buffering=0) as file:
        for start in range(0, len(PICTURE), len(PICTURE) // 20 + 1):
            file.write(PICTURE[start : start + len(PICTURE) // 20 + 1])
            time.sleep(0.02)
        assert not live.arrivals
    [arrival] = live.count(1)
    assert data_of(arrival) == PICTURE


@pytest.mark.fault("F01")
def test_two_open_and_close_cycles_are_one_capture(live: Watching) -> None:
    path = live.folder / "twice.jpg"
    path.write_bytes(PICTURE[:1000])
    time.sleep(0.2)  # the pause is the case: the first close was seen and read
    assert not live.arrivals
    with path.open("ab") as file:
        file.write(PICTURE[1000:])
    [arrival] = live.count(1)
    assert data_of(arrival) == PICTURE


@pytest.mark.fault("F01")
def test_complete_and_never_closed_it_is_delivered_when_it_lies_still(live: Watching) -> None:
    with (live.folder / "open.jpg").open("wb", buffering=0) as file:
        file.write(PICTURE)
        assert data_of(live.count(1)[0]) == PICTURE


@pytest.mark.fault("F01")
def test_cut_off_it_is_delivered_as_it_is_and_again_when_completed(live: Watching) -> None:
    path = live.folder / "cut.jpg"
    path.write_bytes(PICTURE[:-1000])
    [arrival] = live.count(1)
    assert isinstance(arrival, Capture)
    assert not arrival.stable
    with path.open("ab") as file:
        file.write(PICTURE[-1000:])
    whole = live.count(2)[1]
    assert isinstance(whole, Capture)
    assert whole.stable
    assert whole.identity != arrival.identity


@pytest.mark.fault("F01")
def test_truncated_during_the_read_it_is_read_anew(live: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    path = live.folder / "changing.jpg"
    real_read = entry_module._read
    reads: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        data = real_read(descriptor, size)
        if not reads:
            reads.append(1)
            path.write_bytes(OTHER)  # truncates, and writes something else
        return data

    monkeypatch.setattr(entry_module, "_read", read)
    path.write_bytes(PICTURE)
    live.count(1)
    assert [data_of(arrival) for arrival in live.arrivals] == [OTHER]


@pytest.mark.fault("F01")
@pytest.mark.parametrize("way", ["rename", "link", "link and unlink", "replace"])
def test_put_into_the_folder_whole(live: Watching, tmp_path: Path, way: str) -> None:
    outside, path = tmp_path / "outside.jpg", live.folder / "in.jpg"
    outside.write_bytes(PICTURE)
    if way == "rename":
        outside.rename(path)
    elif way == "replace":
        path.write_bytes(OTHER)
        live.count(1)
        live.arrivals.clear()
        outside.replace(path)
    else:
        os.link(outside, path)
        if way == "link and unlink":
            outside.unlink()
    [arrival] = live.count(1)
    assert data_of(arrival) == PICTURE


@pytest.mark.fault("F01")
def test_replaced_in_place_both_are_delivered(live: Watching) -> None:
    path = live.folder / "same.jpg"
    for number, data in enumerate((PICTURE, OTHER), 1):
        path.write_bytes(data)
        assert data_of(live.count(number)[-1]) == data


@pytest.mark.fault("F01")
def test_empty_and_sparse_files(make: Callable[..., Watching]) -> None:
    live = make().start().settle()
    (live.folder / "empty.jpg").touch()
    with (live.folder / "sparse.jpg").open("wb") as file:
        file.truncate(2 * 1024**3)
    live.count(2)
    found = {arrival.path.name: arrival for arrival in live.arrivals}
    assert data_of(found["empty.jpg"]) == b""
    assert rejection_of(found["sparse.jpg"]) is Reason.TOO_MANY_BYTES


@pytest.mark.fault("F01")
def test_temporary_names_are_left_until_they_are_renamed(live: Watching) -> None:
    for name in (".hidden.jpg", "a.jpg.tmp", "a.jpg.part", "a.partial", "a.crdownload", "a.jpg~", "Thumbs.db"):
        (live.folder / name).write_bytes(PICTURE)
    (live.folder / "last.jpg").write_bytes(OTHER)
    live.count(1)
    (live.folder / "a.jpg.part").rename(live.folder / "a.jpg")
    live.count(2)
    assert live.paths() == ["last.jpg", "a.jpg"]


def test_what_is_there_at_the_start_is_delivered_unless_known(folder: Path, make: Callable[..., Watching]) -> None:
    for name in ("old.jpg", "new.jpg"):
        (folder / name).write_bytes(PICTURE)
    live = make(known=lambda path, _stamp: path.name == "old.jpg").start()
    live.count(1)
    live.settle()
    assert live.paths() == ["new.jpg"]


@pytest.mark.fault("F02")
def test_lost_events_lead_to_a_look_through_the_folder(live: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    real = INotify.read

    def read(self: INotify, timeout: int | None = None, read_delay: int | None = None) -> list[Event]:
        return [Event(-1, flags.Q_OVERFLOW, 0, "") for _ in list(real(self, timeout, read_delay))[:1]]

    monkeypatch.setattr(INotify, "read", read)
    for number in range(50):
        (live.folder / f"{number}.jpg").write_bytes(PICTURE + bytes([number]))
    live.count(50)
    assert len(set(live.paths())) == 50


@pytest.mark.fault("F02")
def test_a_real_overflow_loses_nothing(live: Watching) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("this system queues too many events for a quick test")
    goes_on = threading.Event()

    def hold(_arrival: Arrival) -> None:
        goes_on.wait(20)

    live.before_delivery = hold
    (live.folder / "first.jpg").write_bytes(PICTURE)
    names = [live.folder / ".a.tmp", live.folder / ".b.tmp"]
    for path in names:
        path.touch()
    for _ in range(limit // 4 + 100):  # each touch is two events, which are not alike one after the other
        for path in names:
            path.touch()
    (live.folder / "after.jpg").write_bytes(OTHER)
    goes_on.set()
    live.count(2)
    assert set(live.paths()) == {"first.jpg", "after.jpg"}


@pytest.mark.fault("F02")
def test_the_folder_may_be_removed_and_come_again(live: Watching) -> None:
    shutil.rmtree(live.folder)
    time.sleep(0.05)
    live.folder.mkdir()
    (live.folder / "a.jpg").write_bytes(PICTURE)
    live.count(1)
    (live.folder / "b.jpg").write_bytes(OTHER)
    live.count(2)
    assert live.paths() == ["a.jpg", "b.jpg"]


@pytest.mark.fault("F02")
def test_a_folder_that_comes_late_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = Watching(tmp_path / "late").start()
    try:
        with caplog.at_level(logging.WARNING):
            time.sleep(0.6)
        live.folder.mkdir()
        (live.folder / "a.jpg").write_bytes(PICTURE)
        live.count(1)
        assert sum("is not there" in record.message for record in caplog.records) <= 1
    finally:
        live.stop()


@pytest.mark.fault("F02")
def test_a_watch_that_fails_starts_again(live: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_ROOT_CHECK_S", 0.1)
    real = FolderWatch._note
    failures: list[str] = []

    def note(self: FolderWatch, name: str, mask: int, now: float) -> None:
        if not failures:
            failures.append(name)
            raise ZeroDivisionError
        real(self, name, mask, now)

    monkeypatch.setattr(FolderWatch, "_note", note)
    (live.folder / "a.jpg").write_bytes(PICTURE)
    assert data_of(live.count(1)[0]) == PICTURE
    assert failures


@pytest.mark.fault("F02")
def test_run_again_it_takes_up_what_came_meanwhile(live: Watching) -> None:
    live.stop()
    (live.folder / "a.jpg").write_bytes(PICTURE)
    live.start()
    assert data_of(live.count(1)[0]) == PICTURE


@pytest.mark.fault("F02")
def test_without_events_it_looks_regularly(make: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: INotify, *_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(INotify, "add_watch", refuse)
    live = make(poll_s=0.05).start()
    (live.folder / "a.jpg").write_bytes(PICTURE)
    assert data_of(live.count(1)[0]) == PICTURE


@pytest.mark.fault("F03")
def test_absence_is_believed_only_of_the_folder_that_we_know(live: Watching, tmp_path: Path) -> None:
    path = live.folder / "a.jpg"
    path.write_bytes(PICTURE)
    live.count(1)
    live.wait(lambda: live.watch.believed)
    assert (live.folder / MARKER).read_text() == "scope-1\n"
    assert not live.watch.missing(path)
    assert live.watch.missing(live.folder / "never.jpg")

    away = tmp_path / "share"
    live.folder.rename(away)
    assert not believes(live)
    live.folder.mkdir()  # an empty mount point
    assert not believes(live)
    assert not live.watch.missing(path)
    (live.folder / "b.jpg").write_bytes(OTHER)
    assert data_of(live.count(2)[1]) == OTHER  # what appears is taken all the same
    assert not believes(live)

    shutil.rmtree(live.folder)
    away.rename(live.folder)
    assert believes(live)
    path.unlink()
    assert live.watch.missing(path)


@pytest.mark.fault("F04")
def test_deleted_and_made_again_with_the_same_name_size_and_time(live: Watching) -> None:
    path = live.folder / "same.jpg"
    changed = bytearray(PICTURE)
    changed[30] ^= 1
    path.write_bytes(PICTURE)
    os.utime(path, ns=(10**18, 10**18))
    live.count(1)
    path.unlink()
    path.write_bytes(bytes(changed))
    os.utime(path, ns=(10**18, 10**18))
    live.wait(lambda: any(data_of(arrival) == bytes(changed) for arrival in live.arrivals))


@pytest.mark.fault("F04")
def test_touched_it_keeps_its_identity(live: Watching) -> None:
    path = live.folder / "a.jpg"
    path.write_bytes(PICTURE)
    first = live.count(1)[0]
    os.utime(path, ns=(10**18, 10**18))
    second = live.count(2)[1]
    assert first.stamp != second.stamp
    assert first.identity == second.identity


@pytest.mark.fault("F05")
def test_what_is_no_file_is_refused_or_left(live: Watching, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(PICTURE)
    (live.folder / "good.jpg").write_bytes(PICTURE)
    live.count(1)
    for kind in NOT_FILES:
        place_not_file(kind, live.folder / f"{kind}.jpg", outside)
    (live.folder / "plain folder").mkdir()
    live.count(7)
    (live.folder / "after.jpg").write_bytes(OTHER)
    live.wait(lambda: live.paths()[-1:] == ["after.jpg"])
    reasons = {a.path.stem: a.rejection.reason for a in live.arrivals if isinstance(a, Unusable)}
    assert reasons == {
        "folder": Reason.NOT_A_FILE,
        "pipe": Reason.NOT_A_FILE,
        "socket": Reason.NOT_A_FILE,
        "link outside": Reason.LINK_OUTSIDE,
        "device link": Reason.LINK_OUTSIDE,
    }
    assert sorted(a.path.stem for a in live.arrivals if isinstance(a, Capture)) == ["after", "good", "link inside"]


@pytest.mark.fault("F05")
def test_names_that_are_no_text(live: Watching) -> None:
    name = b"\xff\xfe\n odd.jpg"
    (live.folder / os.fsdecode(name)).write_bytes(PICTURE)
    assert os.fsencode(live.count(1)[0].path.name) == name


@pytest.mark.fault("F05")
def test_an_unreadable_file_is_tried_again_and_then_refused(live: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    real = entry_module.read_once

    def read(path: Path) -> tuple[bytes, FileStamp]:
        if path.name == "secret.jpg":
            tries.append(path)
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(watch_module, "read_once", read)
    monkeypatch.setattr(watch_module, "_UNREADABLE_AFTER", 2)
    (live.folder / "secret.jpg").write_bytes(PICTURE)
    assert rejection_of(live.count(1)[0]) is Reason.UNREADABLE
    assert len(tries) == 2


def test_what_the_receiver_raises_is_met_by_trying_again(live: Watching, caplog: pytest.LogCaptureFixture) -> None:
    failures: list[int] = []

    def fail_once(_arrival: Arrival) -> None:
        if not failures:
            failures.append(1)
            raise ValueError

    live.before_delivery = fail_once
    (live.folder / "a.jpg").write_bytes(PICTURE)
    assert data_of(live.count(1)[0]) == PICTURE
    assert "trying again" in caplog.text


def test_sidecars_are_told_of_and_never_captures(folder: Path, make: Callable[..., Watching]) -> None:
    (folder / "before.json").write_text("{}")
    live = make().start().settle()
    (folder / "after.json").write_text("{}")
    live.wait(lambda: bool(live.sidecars))
    (folder / "a.jpg").write_bytes(PICTURE)
    live.count(1)
    assert live.paths() == ["a.jpg"]
    assert live.sidecars[0] == folder / "after.json"
    live.wait(lambda: set(live.sidecars) == {folder / "after.json", folder / "before.json"})


def test_files_of_other_formats_are_candidates_by_content(live: Watching) -> None:
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (50, 40)).save(file, "PNG")
    (live.folder / "no extension").write_bytes(file.getvalue())
    (live.folder / "notes.txt").write_text("not a picture")
    live.count(2)
    assert live.paths() == ["no extension", "notes.txt"]


def test_it_stops_at_once_and_rests_while_nothing_happens(live: Watching) -> None:
    began = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - began < 0.1
    assert live.stop() < 1.0
