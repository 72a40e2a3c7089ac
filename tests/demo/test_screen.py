import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from agent.demo.screen import BAR_CELLS, HEADER, LiveScreen, PlainScreen, cloud_line, draw, risk_bar
from agent.demo.table import Row, Stage, Word

ANSWERED = Row(
    "SYN_1.jpg", "at once", Stage.ANSWERED, 0.42, 0.3, "melanocytic nevus", 0.5, 250.0, "cpu", "0199-aa",
    in_cloud_s=0.14,
)  # fmt: skip
REJECTED = Row("SYN_2.jpg", "text named .jpg", Stage.REJECTED, sentence="This file is not a picture.")
WAITING = Row("SYN_3.jpg", "slowly", Stage.WAITING)


PULLED = Word("network pulled: answers go on, 12 events wait", pulled=True)


def text_of(rows, width=160, word=None, *, cloud=True):
    console = Console(file=io.StringIO(), width=width)
    line = cloud_line(rows, word) if cloud else None
    console.print(draw(rows, Path("state/results"), "ends after the last answer", width, cloud=line))
    return console.file.getvalue()


def test_the_table_shows_what_a_visitor_wants_to_know():
    text = text_of([ANSWERED, REJECTED, WAITING])
    for words in (
        "SYN_1.jpg", "at once", "0.42 !", "threshold 0.30", "melanocytic nevus", "50%", "250 ms", "cpu", "answered",
        "SYN_2.jpg", "This file is not a picture.", "rejected", "SYN_3.jpg", "waiting",
        "✓ 0.1s", "cloud: 1 of 2 acknowledged",
        str(Path("state/results/0199-aa.png")), str(Path("state/results/0199-aa.json")), HEADER,
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut_off_on_a_usual_terminal(width):
    longest = Row(
        "SYN_00001.jpg", "1600x1200 JPEG, with a pause", Stage.ANSWERED, 1.0, 0.3, "basal cell carcinoma", 1.0, 12345.0,
        "cpu", "s", in_cloud_s=9.94,
    )  # fmt: skip
    text = text_of([longest, REJECTED], width, PULLED)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for words in ("SYN_00001.jpg", "1.00 !", "basal cell carcinoma", "100%", "12345", "cpu", "✓ 9.9s", PULLED.text):
        assert words in text
    assert ("with a pause" in text) is (width == 120)


def test_the_header_says_what_it_is_not():
    assert "SYNTHETIC" in HEADER
    assert "not for clinical use" in HEADER


@pytest.mark.parametrize(("risk", "filled"), [(0.0, 0), (0.5, BAR_CELLS // 2), (1.0, BAR_CELLS - 1)])
def test_the_bar_is_as_long_as_the_risk(risk, filled):
    bar = risk_bar(Row("a", risk=risk, threshold=0.999)).plain
    assert bar.count("█") == filled
    assert bar.index("|") == BAR_CELLS - 1


def test_the_bar_is_red_from_the_threshold_on():
    def styles(risk):
        return {str(span.style) for span in risk_bar(Row("a", risk=risk, threshold=0.3)).spans}

    assert "bold red" in styles(0.3)
    assert "bold red" not in styles(0.29)


def test_no_risk_no_bar():
    assert not risk_bar(REJECTED).plain


def test_plain_lines_come_once_and_without_control_codes():
    lines = []
    with PlainScreen(lines.append) as screen:
        screen.show([WAITING])
        screen.show([ANSWERED, WAITING])
        screen.show([ANSWERED, REJECTED, WAITING])
    assert [line.split()[0] for line in lines] == ["SYN_1.jpg", "SYN_1.jpg:", "SYN_2.jpg"]
    assert lines[1] == "  SYN_1.jpg: acknowledged by the cloud after 0.14 s"
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(lines))


def test_a_plain_line_waits_for_its_latency():
    """The answer can come before the dermoscope has said that its file is closed."""
    lines = []
    early = Row("SYN_1.jpg", "twice over", Stage.ANSWERED, 0.4, 0.3, "x", 0.5, None, "cpu", "s")
    screen = PlainScreen(lines.append)
    screen.show([early])
    assert lines == []
    screen.show([ANSWERED])
    assert len(lines) == 2


def test_a_plain_word_on_the_network_comes_once():
    lines = []
    screen = PlainScreen(lines.append)
    for word in (None, PULLED, PULLED, Word("network back", pulled=False)):
        screen.show([], word)
    assert lines == [f"  {PULLED.text}", "  network back"]


def test_what_the_cloud_has_not_acknowledged_waits():
    late = Row("SYN_4.jpg", stage=Stage.ANSWERED, risk=0.4, threshold=0.3, in_cloud_s=12.3)
    assert "waits" in text_of([REJECTED])
    assert "waits" not in text_of([WAITING])
    assert "✓ 12s" in text_of([late])


def test_without_a_cloud_there_is_no_word_of_it():
    text = text_of([ANSWERED, REJECTED], cloud=False)
    assert "cloud" not in text
    assert "waits" not in text


def test_the_live_table_leaves_the_cursor_visible():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=24)
    with LiveScreen(console, Path("results"), "hint", cloud=True) as screen:
        screen.show([ANSWERED])
    written = console.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "SYN_1.jpg" in written


def test_the_newest_rows_stay_in_sight():
    rows = [Row(f"SYN_{number:03d}.jpg", "at once", Stage.WAITING) for number in range(100)]
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=24)
    with LiveScreen(console, Path("results"), "hint", cloud=True) as screen:
        screen.show(rows)
    written = console.file.getvalue()
    assert "SYN_099.jpg" in written
    assert "SYN_000.jpg" not in written
    assert "100 pictures" in written
