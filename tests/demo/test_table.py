from datetime import datetime, timezone
from itertools import permutations
from pathlib import Path

import pytest

from agent.answer.scan import Answer, Calibration, Diagnosis, Operating, Quality
from agent.demo.dermoscope import Habit, Shot
from agent.demo.encode import Format
from agent.demo.table import (
    Acknowledged,
    Announced,
    Outcome,
    Row,
    Stage,
    Word,
    line_of,
    rows_of,
    summary_of,
    word_of,
)
from engines.classes import CLASSES


def answer(risk=0.42, threshold=0.3):
    rest = dict.fromkeys(CLASSES[1:], (1 - risk) / 6)
    return Answer(
        diagnosis=Diagnosis(
            primary="basal_cell_carcinoma",
            confidence=0.5,
            melanoma_risk=risk,
            all_classes={"melanoma": risk, **rest},
        ),
        attention_map="",
        recommendation="",
        model_version="demo/0.1.0",
        latency_ms=12,
        scan_id="scan-1",
        image_sha256="0" * 64,
        clinic_id="c",
        device_id="d",
        dermoscope_id="s",
        answered_at=datetime(2026, 11, 1, tzinfo=timezone.utc),
        backend="cpu",
        operating=Operating(threshold=threshold, suspicious=risk >= threshold),
        calibration=Calibration(),
        quality=Quality(
            width=1, height=1, brightness=0.5, sharpness=1.0, clipped_share=0.0, dark_ring_share=0.0
        ),
        timings_ms={},
        software_version="0",
        model_sha256="0" * 64,
        clock_trusted=True,
    )  # fmt: skip


ANNOUNCED = Announced("SYN_1.jpg", "at once")
SHOT = Shot(Path("/in/SYN_1.jpg"), "0" * 64, Habit.WHOLE, 10.0, (1024, 768), Format.JPEG)
ANSWERED = Outcome("SYN_1.jpg", "scan-1", 10.25, answer(), None)
ACKNOWLEDGED = Acknowledged("SYN_1.jpg", 0.12)
REJECTED = Outcome("SYN_2.jpg", "scan-2", 11.0, None, "This file is not a picture.")


def test_a_picture_goes_through_its_stages():
    assert [rows_of([ANNOUNCED, SHOT, ANSWERED][:count])[0].stage for count in (1, 2, 3)] == [
        Stage.WRITING,
        Stage.WAITING,
        Stage.ANSWERED,
    ]


@pytest.mark.parametrize("events", list(permutations([ANNOUNCED, SHOT, ANSWERED, ACKNOWLEDGED])))
def test_the_order_of_the_news_does_not_matter(events):
    (row,) = rows_of(events)
    assert row == Row(
        name="SYN_1.jpg",
        how="at once",
        stage=Stage.ANSWERED,
        risk=0.42,
        threshold=0.3,
        suggestion="basal cell carcinoma",
        confidence=0.5,
        latency_ms=250.0,
        backend="cpu",
        scan_id="scan-1",
        in_cloud_s=0.12,
    )


def test_words_on_the_network_are_no_pictures_and_the_last_counts():
    events = [ANNOUNCED, Word("pulled", pulled=True), SHOT, Word("back", pulled=False), ANSWERED]
    assert len(rows_of(events)) == 1
    assert word_of(events) == Word("back", pulled=False)
    assert word_of([ANNOUNCED]) is None


def test_an_answer_before_the_clock_was_read_is_no_negative_latency():
    (row,) = rows_of([SHOT, Outcome("SYN_1.jpg", "scan-1", 9.99, answer(), None)])
    assert row.latency_ms == 0.0


def test_a_rejection_says_why():
    (row,) = rows_of([REJECTED])
    assert row.stage is Stage.REJECTED
    assert row.risk is None
    assert not row.suspicious
    assert "This file is not a picture." in line_of(row)


@pytest.mark.parametrize(("risk", "suspicious"), [(0.29, False), (0.3, True), (0.9, True)])
def test_suspicious_is_judged_by_the_threshold_not_by_the_suggestion(risk, suspicious):
    (row,) = rows_of([Outcome("a", "s", 1.0, answer(risk, 0.3), None)])
    assert row.suspicious is suspicious
    assert ("SUSPICIOUS" in line_of(row)) is suspicious


def test_a_rejection_has_no_latency():
    shot = Shot(Path("/in/SYN_2.jpg"), "0" * 64, Habit.WHOLE, 1.0, (0, 0), Format.JPEG)
    (row,) = rows_of([shot, REJECTED])
    assert row.latency_ms is None


def test_rows_keep_the_order_of_their_first_news():
    rows = rows_of([ANNOUNCED, REJECTED, SHOT, ANSWERED])
    assert [row.name for row in rows] == ["SYN_1.jpg", "SYN_2.jpg"]


def test_the_summary_counts_and_explains():
    rows = rows_of([ANNOUNCED, SHOT, ANSWERED, REJECTED, Announced("SYN_3.jpg", "slowly")])
    text = "\n".join(summary_of(rows, "state/results"))
    assert "1 answered, 1 rejected, 1 open" in text
    assert "SYN_2.jpg: This file is not a picture." in text
    assert "median latency 250 ms" in text
    assert "state/results" in text


def test_the_summary_of_nothing():
    assert summary_of((), "r")[0] == "0 answered, 0 rejected, 0 open"
