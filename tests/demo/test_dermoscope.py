import io
import json
from datetime import datetime, timezone

import inotify_simple
import numpy as np
import pytest
from PIL import Image

from agent.demo.dermoscope import Habit, Pace, SimulatedDermoscope
from agent.demo.encode import SOFTWARE, Format
from agent.intake.complete import is_complete
from agent.intake.exif import exif_moment

SMALL = (160, 120)
NOON = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)


class Pauses:
    """A sleep that does not sleep, and notes what lies in the folder meanwhile."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = []

    def __call__(self, seconds):
        assert seconds > 0
        self.seen.append({path.name: path.read_bytes() for path in self.folder.iterdir()})


@pytest.fixture
def pauses(tmp_path):
    return Pauses(tmp_path)


@pytest.fixture
def dermoscope(tmp_path, pauses):
    return SimulatedDermoscope(tmp_path, seed=3, sleep=pauses, now=lambda: NOON)


@pytest.mark.parametrize("habit", Habit)
def test_every_habit_ends_in_the_same_file_and_nothing_else(dermoscope, tmp_path, habit):
    exposure = dermoscope.expose(SMALL)
    shot = dermoscope.write(exposure, habit)
    assert shot.path.read_bytes() == exposure.data
    assert shot.sha256 == exposure.sha256
    assert [path.name for path in tmp_path.iterdir()] == [exposure.name]


def test_a_slow_file_grows_in_pieces(dermoscope, pauses):
    exposure = dermoscope.expose(SMALL)
    dermoscope.write(exposure, Habit.SLOW)
    lengths = [len(files[exposure.name]) for files in pauses.seen]
    assert len(lengths) == Pace().pieces - 1
    assert lengths == sorted(set(lengths))
    assert all(exposure.data.startswith(files[exposure.name]) for files in pauses.seen)


@pytest.mark.parametrize("kind", Format)
@pytest.mark.parametrize("habit", [Habit.PAUSED, Habit.TWICE])
def test_during_the_pause_the_file_is_not_complete(dermoscope, pauses, habit, kind):
    shot = dermoscope.shoot(habit, SMALL, kind)
    (files,) = pauses.seen
    assert files[shot.path.name]
    assert not is_complete(files[shot.path.name])
    assert is_complete(shot.path.read_bytes())


def test_a_rewritten_file_is_whole_between_its_two_writings(dermoscope, pauses):
    shot = dermoscope.shoot(Habit.REWRITTEN, SMALL)
    (files,) = pauses.seen
    assert files[shot.path.name] == shot.path.read_bytes()


FLAGS = inotify_simple.flags


@pytest.mark.parametrize(
    ("habit", "expected"),
    [
        (Habit.WHOLE, ["CREATE", "CLOSE_WRITE"]),
        (Habit.SLOW, ["CREATE", "CLOSE_WRITE"]),
        (Habit.PAUSED, ["CREATE", "CLOSE_WRITE"]),
        (Habit.RENAME, ["MOVED_TO"]),
        (Habit.TWICE, ["CREATE", "CLOSE_WRITE", "CLOSE_WRITE"]),
        (Habit.REWRITTEN, ["CREATE", "CLOSE_WRITE", "CLOSE_WRITE"]),
        (Habit.HARD_LINK, ["CREATE"]),
    ],
)
@pytest.mark.fault("F01")
def test_the_kernel_tells_of_a_habit_what_it_should(tmp_path, habit, expected):
    """The events that a watch has to make sense of, as the kernel gives them for the picture's own name."""
    told = []
    with inotify_simple.INotify() as notify:
        # Read in each pause, as a watch would: the kernel merges equal events that nobody has read between.
        def listen(seconds):
            told.extend(notify.read(timeout=0))

        dermoscope = SimulatedDermoscope(tmp_path, sleep=listen)
        exposure = dermoscope.expose(SMALL)
        notify.add_watch(tmp_path, FLAGS.CREATE | FLAGS.CLOSE_WRITE | FLAGS.MOVED_TO)
        dermoscope.write(exposure, habit)
        listen(0)
    events = [event for event in told if event.name == exposure.name]
    assert [flag.name for event in events for flag in FLAGS.from_mask(event.mask)] == expected


@pytest.mark.parametrize("kind", [Format.JPEG, Format.PNG, Format.TIFF])
def test_the_tags_say_synthetic_and_when(dermoscope, kind):
    shot = dermoscope.shoot(Habit.WHOLE, SMALL, kind)
    with Image.open(shot.path) as picture:
        exif = picture.getexif()
        assert exif_moment(exif) == NOON.replace(microsecond=0)
        assert exif[0x0131] == SOFTWARE
        assert "synthetic" in exif[0x010E]


@pytest.mark.parametrize("kind", Format)
def test_names_and_formats(dermoscope, kind):
    shot = dermoscope.shoot(Habit.WHOLE, SMALL, kind)
    assert shot.path.name == f"SYN_00001.{kind.value}"
    with Image.open(shot.path) as picture:
        assert picture.format == kind.name
        assert picture.size == SMALL


def test_a_new_dermoscope_goes_on_where_the_last_one_stopped(dermoscope, tmp_path):
    first = dermoscope.shoot(size=SMALL)
    second = SimulatedDermoscope(tmp_path, seed=3, now=lambda: NOON).shoot(size=SMALL)
    assert second.path.name == "SYN_00002.jpg"
    assert second.sha256 != first.sha256


def test_again_is_another_file_of_the_same_picture(dermoscope):
    exposure = dermoscope.expose(SMALL)
    copies = [dermoscope.again(exposure) for _ in range(3)]
    assert len({exposure.sha256, *(copy.sha256 for copy in copies)}) == 4
    pixels = np.asarray(Image.open(io.BytesIO(exposure.data)))
    assert all(np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(copy.data)))) for copy in copies)
    assert all(is_complete(copy.data) for copy in copies)


def test_again_wants_a_jpeg(dermoscope):
    with pytest.raises(ValueError, match="JPEG"):
        dermoscope.again(dermoscope.expose(SMALL, Format.PNG))


def test_a_sidecar_lies_there_before_its_picture_is_whole(dermoscope, pauses):
    shot = dermoscope.shoot(Habit.PAUSED, SMALL, sidecar={"age": 40})
    (files,) = pauses.seen
    assert json.loads(files[shot.path.with_suffix(".json").name]) == {"age": 40}


def test_a_spoilt_file_is_no_picture_and_never_the_same_twice(dermoscope):
    shots = [dermoscope.spoil(), dermoscope.spoil()]
    assert shots[0].sha256 != shots[1].sha256
    for shot in shots:
        with pytest.raises(OSError, match="cannot identify"):
            Image.open(shot.path)


def test_a_shot_is_timed_when_its_file_is_first_whole(tmp_path):
    ticks = iter(range(100))
    now = [0.0]

    def sleep(seconds):
        now[0] = float(next(ticks)) + 100

    dermoscope = SimulatedDermoscope(tmp_path, sleep=sleep, clock=lambda: now[0])
    assert dermoscope.shoot(Habit.REWRITTEN, SMALL).closed_monotonic == 0.0
    assert dermoscope.shoot(Habit.TWICE, SMALL).closed_monotonic == 101.0


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="negative"):
        SimulatedDermoscope(tmp_path, seed=-1)
