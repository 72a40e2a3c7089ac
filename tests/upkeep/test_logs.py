"""The log is bounded, coded, and names no patient."""

from __future__ import annotations

import ast
import io
import logging
import os
from pathlib import Path

import pytest

from agent.upkeep import log_events, logs
from agent.upkeep.log_events import EVENTS, LATER, code_of
from agent.upkeep.logs import ALTOGETHER, NEWS, PLACES, TROUBLES, WINDOW_S, Lines, Repeats, Scrubber

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path("/captures/left")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard(clock):
    """A logger of its own and what it wrote."""
    stream = io.StringIO()
    lines = Lines(stream, Scrubber([FOLDER]), priorities=False, repeats=Repeats(clock))
    log = logging.getLogger("agent.records.writer")
    log.addHandler(lines)
    log.propagate, level = False, log.level
    log.setLevel(logging.DEBUG)
    yield log, stream, lines
    log.removeHandler(lines)
    log.setLevel(level)
    log.propagate = True


def written(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


@pytest.mark.fault("F28")
def test_the_same_error_ten_thousand_times_is_a_few_lines_and_a_count(heard, clock):
    log, stream, lines = heard
    for number in range(10_000):
        log.error("the database cannot be used: %s", number)
    assert len(written(stream)) == TROUBLES
    clock.now += WINDOW_S + 1
    log.error("the database cannot be used: %s", "at last")
    assert len(written(stream)) == TROUBLES + 2
    told = [line for line in written(stream) if f"(held back: {10_000 - TROUBLES} more like this)" in line]
    assert len(told) == 1
    assert written(stream)[-1].endswith("at last")
    lines.close()
    assert len(written(stream)) == TROUBLES + 2, "nothing is told twice"


@pytest.mark.fault("F28")
def test_what_was_held_back_is_told_though_nothing_follows(heard, clock):
    log, stream, lines = heard
    for _ in range(TROUBLES + 7):
        log.warning("rolling back failed: %s", "x")
    lines.look()
    assert len(written(stream)) == TROUBLES
    clock.now += WINDOW_S + 1
    lines.look()
    lines.look()
    assert len(written(stream)) == TROUBLES + 1
    assert "held back: 7 more" in written(stream)[-1]


@pytest.mark.fault("F28")
def test_at_the_end_it_is_told(heard):
    log, stream, lines = heard
    for _ in range(TROUBLES + 3):
        log.warning("x")
    lines.close()
    assert "held back: 3 more" in written(stream)[-1]


@pytest.mark.fault("F28")
def test_sentences_that_are_all_different_are_a_flood_too_and_memory_is_bounded(heard, clock):
    log, stream, lines = heard
    for number in range(20_000):
        log.error(f"{number} is another one")  # noqa: G004 - such a thing is the point
    passed = [line for line in written(stream) if "held back" not in line]
    assert len(passed) == ALTOGETHER
    assert len(lines._repeats._counts) <= PLACES + 1


def test_one_flood_does_not_hide_another_trouble(heard):
    log, stream, _ = heard
    for _ in range(100):
        log.error("the database cannot be used: %s", "x")
    log.error("checkpoint failed: %s", "y")
    log.info("something else")
    assert "checkpoint failed: y" in written(stream)[-2]
    assert "something else" in written(stream)[-1]


def test_a_busy_day_passes(heard, clock):
    log, stream, _ = heard
    for _ in range(10 * NEWS):
        log.info("scan %s answered by %s in %.0f ms", "s", "cpu", 7)
        clock.now += WINDOW_S / NEWS
    assert len(written(stream)) >= 10 * NEWS - 1


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    "name", ["CANARY.jpg", "CANARY, Anna 1970.JPG", "CANARY 'x' (2).tiff", "sub/CANARY: a.png", "CANARY"]
)
def test_no_line_holds_the_name_of_a_capture(heard, name):
    log, stream, _ = heard
    path = FOLDER / name
    log.warning("%s: cannot be read", path)
    log.warning("%s: cannot be read, and %s neither", str(path), os.fsencode(path))
    log.warning("cannot: %s", FileNotFoundError(2, "No such file", str(path)))
    log.error("wrapped: %r", OSError(5, "Input/output error", str(path)))
    try:
        try:
            raise FileNotFoundError(2, "No such file", str(path))
        except OSError as error:
            raise ValueError("it went wrong") from error
    except ValueError:
        log.exception("broke off")
    assert "CANARY" not in stream.getvalue()
    assert "1970" not in stream.getvalue()
    names = {word for line in written(stream) for word in line.replace("'", " ").split() if "file-" in word}
    assert names


def test_the_same_file_has_the_same_name_and_others_stay(heard):
    log, stream, _ = heard
    log.info("%s and %s and %s", FOLDER / "a.jpg", FOLDER / "a.jpg", Path("/var/lib/dermascan/results/x.json"))
    line = written(stream)[0]
    first = line.partition("/captures/left/")[2].partition(" ")[0]
    assert line.count(first) == 2
    assert first.startswith("file-")
    assert first.endswith(".jpg")
    assert "/var/lib/dermascan/results/x.json" in line


def test_a_line_is_one_line_whatever_is_in_it(heard):
    log, stream, _ = heard
    log.warning("a name: %s", "x\n<0>[records.full] forged\x1b[2J")
    assert len(written(stream)) == 2
    assert written(stream)[1].startswith("  "), "what follows is set in"
    assert "\x1b" not in stream.getvalue()


def test_under_the_service_manager_each_line_has_its_priority(clock):
    stream = io.StringIO()
    lines = Lines(stream, Scrubber([]), priorities=True, repeats=Repeats(clock))
    trouble = (ValueError, ValueError("x"), None)
    for level, expected in ((10, "<7>"), (20, "<6>"), (30, "<4>"), (40, "<3>"), (50, "<2>")):
        lines.emit(logging.LogRecord("agent.x", level, "p", level, "said", None, trouble))
        assert stream.getvalue().splitlines()[-1].startswith(expected)
    assert all(line[0] == "<" for line in stream.getvalue().splitlines())


def test_the_journal_is_known_by_its_inode(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        there = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs._is_journal(stream, there)
        assert not logs._is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not logs._is_journal(stream, {})
    assert not logs._is_journal(io.StringIO(), there)


def test_each_kind_has_its_code():
    assert code_of("agent.records.writer", "the store is full (quota or disk): nothing") == "records.full"
    assert code_of("agent.records.writer", "whatever") == "records.other"
    assert code_of("agent.records.keeping.integrity", "%s") == "keeping.damaged"
    assert code_of("agent.records.keeping.integrity", "%s (3 more since the last such line)") == "keeping.damaged"
    assert code_of("engines.supervisor", "x") == "engine.other"
    assert code_of("uvicorn", "x") == "other.other"
    assert code_of("agentx", "x") == "other.other"


def test_codes_are_unique_and_well_formed():
    codes = [event.code for event in EVENTS]
    assert len(set(codes)) == len(codes)
    for event in EVENTS:
        assert event.code == event.code.lower()
        assert event.code.count(".") == 1


def test_the_catalogue_says_what_the_source_says():
    """Each entry's sentence is in its module: a sentence that was changed takes its code along."""
    for event in EVENTS:
        if event.logger in LATER:
            continue
        path = REPOSITORY / Path(*event.logger.split(".")).with_suffix(".py")
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        found = [text for text in texts if isinstance(text, str) and text.startswith(event.start)]
        assert found, f"{event.code}: {path} says nothing that begins with {event.start!r}"


def test_the_page_is_the_catalogue():
    assert (REPOSITORY / "docs" / "log-events.md").read_text() == log_events.page()


def test_started_it_is_the_only_one(tmp_path):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        lines = logs.start([FOLDER], stream=stream)
        assert root.handlers == [lines]
        logging.getLogger("agent.commands").info("watching %s", FOLDER)
        lines.scrub([tmp_path])
        logging.getLogger("agent.commands").warning("%s", tmp_path / "CANARY.png")
    finally:
        root.handlers, root.level = before, level
    assert stream.getvalue().splitlines()[0] == "INFO [agent.watching] agent.commands: watching /captures/left"
    assert "CANARY" not in stream.getvalue()
