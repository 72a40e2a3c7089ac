"""A verification of real worker processes: good engines pass, and each way to be wrong is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle, golden_input
from engines.verification.gates import Outcome, Verdict
from engines.verification.labels import Picture, PicturesError
from engines.verification.run import Order, ReferenceFailed, verify
from engines.verification.views import views
from tests.fakes import faulty_backend as fake

MakeOrder = Callable[..., Order]


def test_the_views_are_different_pictures_that_begin_with_the_golden_image(demo: Bundle) -> None:
    golden = golden_input(demo)
    made = views(golden)
    assert made.shape == (16, 3, 224, 224)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[0], golden[0])
    assert len({view.tobytes() for view in made}) == 16
    np.testing.assert_array_equal(made, views(golden))


def test_a_good_engine_with_labels_is_measured_in_everything(make_order: MakeOrder) -> None:
    steps: list[tuple[str, int, int]] = []
    found = verify(make_order(labels=True), lambda *step: steps.append(step))
    assert all(gate.outcome is not Outcome.NOT_MEASURED for gate in found.gates)
    assert [gate.outcome for gate in found.gates[:7]] == [Outcome.MET] * 7
    assert len(found.gates) == 10
    assert found.failure is None
    assert found.self_test is not None
    assert found.self_test.difference_max < 1e-4
    assert found.pictures is not None
    assert (found.pictures.images, found.pictures.agreeing) == (6, 6)
    assert found.picture_set is not None
    assert found.picture_set.class_counts == {
        "melanoma": 2,
        "benign_keratosis": 1,
        "dermatofibroma": 1,
        "melanocytic_nevus": 2,
    }
    assert found.latency_p50_ms is not None
    assert found.latency_p50_ms.value > 0.1
    assert ("reference", 6, 6) in steps
    assert ("faulty", 6, 6) in steps


def test_without_labels_or_pictures_the_rest_is_not_measured(make_order: MakeOrder) -> None:
    found = verify(make_order())
    assert [gate.name for gate in found.gates if gate.outcome is Outcome.NOT_MEASURED] == [
        "melanoma sensitivity at the threshold",
        "accuracy, seven classes",
        "accuracy lost against the reference",
    ]
    assert found.verdict is Verdict.INCOMPLETE
    bare = verify(make_order(images=False))
    assert sum(gate.outcome is Outcome.NOT_MEASURED for gate in bare.gates) == 6
    assert bare.pictures is None
    assert bare.verdict is Verdict.INCOMPLETE


@pytest.mark.fault("F14")
@pytest.mark.parametrize("run", ["1", "9", "21"])
def test_wrong_numbers_in_a_batch_in_a_view_or_in_a_picture_fail(make_order: MakeOrder, run: str) -> None:
    found = verify(make_order({run: "wrong"}))
    assert found.verdict is Verdict.FAILED
    assert found.failure is None
    unmet = [gate.name for gate in found.gates if gate.outcome is Outcome.UNMET]
    assert unmet
    assert all(name.startswith("pictures" if run == "21" else "golden image") for name in unmet)


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"3": "nan"}, "not numbers"),
        ({"3": "raise"}, "CUDA error 700"),
        ({"20": "segfault"}, "killed by SIGSEGV"),
        ({"2": "exit"}, "exit status 7"),
        ({"2": "hang"}, "no answer within 1.0 s"),
        ({"load:1": "segfault"}, "opening the backend: the worker process ended"),
    ],
)
def test_an_engine_that_cannot_be_run_has_failed(make_order: MakeOrder, faults: dict[str, str], words: str) -> None:
    found = verify(make_order(faults, run_timeout_s=1.0 if "hang" in faults.values() else 30.0))
    assert found.verdict is Verdict.FAILED
    assert found.failure is not None
    assert words in found.failure
    assert {gate.outcome for gate in found.gates} == {Outcome.NOT_MEASURED}


def test_the_time_can_be_another_engines(make_order: MakeOrder, tmp_path: Path) -> None:
    (tmp_path / "timed").mkdir()
    order = make_order({str(run): "slow:0.1" for run in range(18, 26)})
    for timed, note in ((None, "one by one"), (fake.spec(tmp_path / "timed"), "one by one, on faulty")):
        found = verify(replace(order, timed=timed))
        gate = next(gate for gate in found.gates if gate.name.startswith("latency"))
        assert gate.figure is not None
        assert (gate.figure.value > 100) == (timed is None)
        assert gate.note.endswith(note)


def test_a_reference_that_cannot_be_run_says_nothing_of_the_engine(make_order: MakeOrder, tmp_path: Path) -> None:
    order = replace(make_order(), reference=None)
    (tmp_path / "model.onnx").write_bytes(b"damaged after the check")
    shutil.copyfile(order.bundle.golden_path, tmp_path / "golden.png")
    with pytest.raises(ReferenceFailed, match=r"model\.onnx: the FP32 reference cannot be run .*cannot load it"):
        verify(replace(order, bundle=replace(order.bundle, folder=tmp_path)))


def test_a_picture_that_cannot_be_read_ends_it(make_order: MakeOrder, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    order = make_order()
    with pytest.raises(PicturesError, match=r"bad\.png: the picture cannot be decoded"):
        verify(replace(order, pictures=(*order.pictures, Picture(tmp_path / "bad.png"))))
