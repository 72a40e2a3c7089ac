"""The pipeline with a ladder that needs no model: what the answer holds, in which order things happen."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.answer import pipeline, texts
from agent.answer.heatmap import heatmap_png
from agent.answer.pipeline import Analysis, Setting, analyse, merge_about, prepare
from agent.answer.scan import Answer, CalibrationState
from agent.intake.capture import Capture
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import Reason, Rejection
from agent.intake.sidecar import Sidecar
from engines.backend import Images, Output
from engines.classes import CLASSES
from engines.ladder import LadderResult
from tests.answer.conftest import NOW, STAMP, FakeLadder, png, skin


@pytest.mark.requirement("R-ANS-1", "R-ANS-6")
def test_the_answer_is_whole(
    analysed: Callable[..., Analysis], capture: Capture, attention: NDArray[np.float32]
) -> None:
    analysis = analysed()
    answer = analysis.answer
    assert base64.b64decode(answer.attention_map) == heatmap_png(attention)
    assert answer.model_version == "fake/1.2.3"
    assert answer.image_sha256 == capture.sha256
    assert (answer.clinic_id, answer.device_id, answer.dermoscope_id) == ("clinic-1", "device-1", "scope-1")
    assert answer.captured_at == datetime.fromtimestamp(STAMP.mtime_ns / 1e9, tz=timezone.utc)
    assert answer.answered_at == NOW
    assert answer.calibration.state is CalibrationState.NONE
    assert [(rung.backend, rung.reason) for rung in answer.passed_over] == [("tensorrt", "not ready")]
    assert answer.warnings == (texts.NOT_CALIBRATED,)
    assert set(answer.timings_ms) == {"decode", "quality", "preprocess", "colours", "preview", "inference", "explain"}
    assert answer.latency_ms >= sum(
        answer.timings_ms[stage] for stage in ("decode", "quality", "preprocess", "explain")
    )
    assert Answer.model_validate_json(answer.model_dump_json()) == answer
    np.testing.assert_array_equal(analysis.attention, attention)


@pytest.mark.requirement("R-ANS-5")
def test_the_attention_is_of_the_run_that_gave_the_probabilities(setting: Setting, capture: Capture) -> None:
    """Two captures at once, of one ladder whose every run has numbers and a map of its own."""

    class Runs:
        """Run ``n`` gives class ``n`` and looks at place ``n``, and is not over before another has begun."""

        begun = 0
        both = threading.Barrier(2)

        def run(self, images: Images, deadline_s: float) -> LadderResult:
            with lock:
                number, self.begun = self.begun, self.begun + 1
            probabilities, attention = np.full((1, 7), 0.02, np.float32), np.zeros((1, 14, 14), np.float32)
            probabilities[0, number], attention[0, number, number] = 0.88, 1.0
            self.both.wait(10)
            return LadderResult(Output(probabilities, attention), "cpu", (), 5.0)

    lock, runs = threading.Lock(), Runs()
    twice = replace(setting, ladder=runs)  # type: ignore[arg-type] - what the pipeline uses of a ladder
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(analyse, capture, twice, f"scan-{n}", Sidecar) for n in range(2)]
    assert runs.begun == 2, "one run for each answer: neither part of it comes from another one"
    seen = set()
    for analysis in (one.result() for one in both):
        number = CLASSES.index(analysis.answer.diagnosis.primary)
        seen.add(number)
        right = np.zeros((14, 14), np.float32)
        right[number, number] = 1.0
        np.testing.assert_array_equal(analysis.attention, right)
        assert base64.b64decode(analysis.answer.attention_map) == heatmap_png(right)
    assert seen == {0, 1}


@pytest.mark.requirement("R-ANS-1")
def test_a_client_of_the_core_fields_works(analysed: Callable[..., Analysis]) -> None:
    core = json.loads(analysed().answer.model_dump_json())
    assert set(core["diagnosis"]) == {"primary", "confidence", "melanoma_risk", "all_classes"}
    assert core["diagnosis"]["melanoma_risk"] == core["diagnosis"]["all_classes"]["melanoma"]
    assert {"attention_map", "recommendation", "model_version", "latency_ms"} <= set(core)


def test_the_sidecar_is_read_after_inference(setting: Setting, ladder: FakeLadder, capture: Capture) -> None:
    def sidecar() -> Sidecar:
        ladder.events.append("sidecar")
        return Sidecar(patient_id="p", age=61)

    analysis = analyse(capture, setting, "scan-1", sidecar)
    assert ladder.events == ["run", "sidecar"]
    assert analysis.answer.patient_id == "p"
    assert analysis.about == {"patient_id": "p", "age": "61"}


@pytest.mark.requirement("R-ANS-4")
def test_the_sidecar_wins_over_the_picture_and_a_contradiction_is_told() -> None:
    in_picture = {"patient_id": "A", "sex": "female"}
    merged, warnings = merge_about(in_picture, Sidecar(patient_id="B", body_site="back"))
    assert merged == {"patient_id": "B", "sex": "female", "body_site": "back"}
    assert warnings == (texts.PATIENTS_DIFFER,)
    assert merge_about(in_picture, Sidecar(patient_id=" A ", sex="male"))[1] == ()
    assert merge_about(in_picture, Sidecar()) == (in_picture, ())


@pytest.mark.requirement("R-ANS-4", "R-ANS-7")
def test_warnings_come_in_order(
    monkeypatch: pytest.MonkeyPatch, setting: Setting, capture: Capture, ladder: FakeLadder
) -> None:
    small = Picture(skin(256, 256), "PNG", notes=("Turned.",), about={"patient_id": "A"})
    monkeypatch.setattr(pipeline, "decode", lambda data, limits, name: small)
    ticks = iter([float(tick) for tick in range(100)])
    slow = replace(setting, monotonic=lambda: next(ticks))
    partial_file = replace(capture, stable=False)
    answer = analyse(partial_file, slow, "s", lambda: Sidecar(patient_id="B", warning="Sidecar odd.")).answer
    assert "Low resolution" in answer.warnings[0]
    assert answer.warnings[1:6] == (
        texts.NOT_CALIBRATED,
        "Turned.",
        texts.NEVER_ENDED,
        "Sidecar odd.",
        texts.PATIENTS_DIFFER,
    )
    assert "longer than the 3.0 s allowed" in answer.warnings[6]
    # Five readings before the ladder's turn: its deadline is used up, and it is still asked.
    assert ladder.deadlines == [pipeline.LEAST_TIME_S]


def test_the_ladder_gets_what_is_left_of_the_deadline(analysed: Callable[..., Analysis], ladder: FakeLadder) -> None:
    # Start, three stages of the network's input, the beginning and two stages beside them, the end of both; what is
    # left then, and the beginning and the end of the conclusion.
    ticks = iter([10.0, 10.1, 10.2, 10.3, 10.3, 10.4, 10.5, 10.5, 10.6, 10.7, 10.8])
    analysis = analysed(monotonic=lambda: next(ticks))
    assert ladder.deadlines == [pytest.approx(2.4)]
    assert analysis.answer.latency_ms == pytest.approx(800.0)
    assert next(ticks, None) is None


def test_quality_and_preview_are_judged_beside_the_network_s_input(
    setting: Setting, capture: Capture, analysed: Callable[..., Analysis]
) -> None:
    threads = []

    def begin(work: Callable[[], object]) -> Callable[[], object]:
        threads.append(work)
        return work

    beside = analyse(capture, replace(setting, aside=begin), "scan-1", Sidecar).answer
    alone = analysed().answer
    assert len(threads) == 1
    assert beside.quality == alone.quality
    assert beside.timings_ms.keys() == alone.timings_ms.keys()


@pytest.mark.fault("F16")
def test_no_wall_clock_touches_an_interval(analysed: Callable[..., Analysis]) -> None:
    back_in_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)
    answer = analysed(clock=lambda: back_in_1970, clock_trusted=lambda: False).answer
    assert answer.answered_at == back_in_1970
    assert not answer.clock_trusted
    assert 0 <= answer.latency_ms < 10_000


def test_the_network_sees_what_the_manifest_says(analysed: Callable[..., Analysis], ladder: FakeLadder) -> None:
    analysed()
    (images,) = ladder.images
    assert images.shape == (1, 3, 224, 224)
    assert images.dtype == np.float32


def test_a_full_picture_is_not_held_during_inference(setting: Setting) -> None:
    capture = Capture.from_bytes(Path("big.png"), "scope-1", STAMP, png(skin(3000, 4000)))
    prepared = prepare(capture, setting)
    assert prepared.preview.shape == (750, 1000, 3)
    base = prepared.preview
    while base.base is not None:
        base = base.base  # a view would keep the whole picture alive
    assert base.nbytes < 4_000_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", Reason.EMPTY), (b"hello", Reason.NOT_A_PICTURE), (png(skin(150, 300)), Reason.TOO_SMALL)],
)
@pytest.mark.fault("F05")
def test_a_bad_picture_is_the_pictures_fault(setting: Setting, ladder: FakeLadder, data: bytes, reason: Reason) -> None:
    capture = Capture.from_bytes(Path("x.png"), "scope-1", STAMP, data)
    with pytest.raises(Rejection) as refused:
        analyse(capture, setting, "scan-1", Sidecar)
    assert refused.value.reason is reason
    assert ladder.events == []


def test_the_limits_are_the_settings(setting: Setting, capture: Capture) -> None:
    with pytest.raises(Rejection) as refused:
        prepare(capture, replace(setting, limits=DecodeLimits(max_pixels=1000)))
    assert refused.value.reason is Reason.TOO_MANY_PIXELS
