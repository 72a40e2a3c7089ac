"""The backend as the worker opens it: only a plan of this device that was proved here, and only after the probe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import Bundle, golden_input, load_bundle
from engines.golden import golden_check
from engines.tensorrt import backend, gpu
from engines.tensorrt.backend import TensorRtBackend, about, note_of, open_backend, open_plan, options_for
from engines.tensorrt.cuda import Device
from engines.tensorrt.gpu import NoGpu
from engines.tensorrt.order import CompileOrder
from engines.tensorrt.plans import Plan, PlanError
from engines.tensorrt.session import PlanRefused
from engines.verification import first_load
from tests.fakes import fake_tensorrt, pretended_gpu
from tests.fakes.fake_gpu import Card
from tests.fakes.faulty_backend import picture, right_answer

Compile = Callable[..., Plan]


@pytest.fixture
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle, check_hashes=False)


@pytest.fixture
def compiled(card: Card, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Put a plan of the demo bundle into a cache under ``tmp_path``; ``proved`` also notes that it passed."""
    monkeypatch.setenv("PRETENDED_PLAN", str(tmp_path / "plan.json"))

    def make(*, proved: bool = True, **what: object) -> Plan:
        (tmp_path / "plan.json").write_text(json.dumps(what))
        plan = pretended_gpu.compile_plan(
            bundle, CompileOrder(max_batch=4), lambda *_: None, cache=tmp_path / "cache", force=True
        )
        if proved:
            reference = Reference()
            first_load(bundle, reference, about=about(plan), note=note_of(plan), reference=reference)
        return plan

    return make


class Reference:
    """Agrees with itself, so that a note of passing is written without computing anything."""

    def run(self, images: Any) -> Any:
        return right_answer(images)

    def close(self) -> None:
        pass


def open_it(plan: Plan, bundle: Bundle, **changes: object) -> TensorRtBackend:
    options: dict[str, Any] = options_for(plan, plan.folder.parents[1])
    options["key"] |= changes
    return open_backend(bundle.folder, **options)


def test_a_proved_plan_gives_the_models_answers(compiled: Compile, bundle: Bundle, card: Card) -> None:
    engine = open_it(compiled(), bundle)
    assert engine.max_batch == 4
    golden = golden_check(bundle)
    golden.check(engine.run(golden.images))
    engine.close()
    assert card.leaks == []


def test_more_pictures_than_a_batch_are_run_in_slices(card: Card) -> None:
    card.probed = True
    plan = fake_tensorrt.make_plan(max_batch=4)
    engine = TensorRtBackend(pretended_gpu.tensorrt(), plan, Device(), graph_batches=2)
    images = np.concatenate([picture(seed) for seed in range(11)])
    output, right = engine.run(images), right_answer(images)
    np.testing.assert_array_equal(output.probabilities, right.probabilities)
    np.testing.assert_array_equal(output.attention, right.attention)
    assert output.probabilities.dtype == output.attention.dtype == np.float32


@pytest.mark.fault("F13")
def test_the_driver_is_asked_before_anything_that_crashes_without_one(
    compiled: Compile, bundle: Bundle, card: Card
) -> None:
    plan = compiled()
    card.log.clear()
    open_it(plan, bundle)
    assert card.log[0] == "probe"
    assert card.log.index("probe") < card.log.index("init") < card.log.index("Runtime")


@pytest.mark.fault("F13")
def test_without_a_gpu_nothing_of_it_is_touched(
    compiled: Compile, bundle: Bundle, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compiled()
    (tmp_path / "hidden").touch()
    monkeypatch.setenv("PRETENDED_NO_GPU", str(tmp_path / "hidden"))
    monkeypatch.setattr(backend, "find_tensorrt", lambda: pytest.fail("TensorRT was imported"))
    card.log.clear()
    with pytest.raises(NoGpu, match="the driver sees no GPU"):
        open_it(plan, bundle)
    assert card.log == ["probe"]


@pytest.mark.fault("F14")
def test_an_unproved_plan_does_not_open(compiled: Compile, bundle: Bundle, card: Card) -> None:
    plan = compiled(proved=False)
    with pytest.raises(PlanRefused, match="has not passed its verification on this device"):
        open_it(plan, bundle)
    assert "Runtime" not in card.log, "not even loaded"


@pytest.mark.fault("F14")
def test_the_proof_is_of_these_bytes_and_this_software(
    compiled: Compile, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = note_of(compiled()).read_bytes()
    other = compiled(proved=False, memory=8192)
    note_of(other).write_bytes(note)
    with pytest.raises(PlanRefused, match="has not passed"):
        open_it(other, bundle)
    plan = compiled()
    monkeypatch.setattr("engines.verification.first.versions", lambda: {"tensorrt": "another"})
    with pytest.raises(PlanRefused, match="has not passed"):
        open_it(plan, bundle)


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "NVIDIA T4"}, "gpu 'Pretended T4', and here is 'NVIDIA T4'"),
        ({"compute_capability": (8, 7)}, "compute_capability '7.5', and here is '8.7'"),
        ({"driver": "590.1"}, "driver '580.65.06', and here is '590.1'"),
    ],
)
def test_a_plan_of_another_gpu_or_driver_is_refused(
    compiled: Compile, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], field: str
) -> None:
    plan = compiled()
    monkeypatch.setattr(gpu, "probe", lambda **_: dataclasses.replace(pretended_gpu.GPU, **changed))
    with pytest.raises(PlanRefused) as caught:
        open_it(plan, bundle)
    assert f"the plan is for {field}" in str(caught.value)


@pytest.mark.fault("F14")
def test_a_plan_of_another_tensorrt_or_model_is_refused(
    compiled: Compile, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compiled()
    with pytest.raises(PlanRefused, match="for model_sha256 '0000"):
        open_it(plan, bundle, model_sha256="0" * 64)
    newer = dataclasses.replace(pretended_gpu.tensorrt(), version="11.0.0")
    monkeypatch.setattr(backend, "find_tensorrt", lambda: newer)
    with pytest.raises(PlanRefused, match=r"for version '10.13.3.9', and here is '11.0.0'"):
        open_it(plan, bundle)


def test_a_plan_that_is_not_there_is_asked_for(compiled: Compile, bundle: Bundle) -> None:
    with pytest.raises(PlanRefused, match="holds no plan for this model and device; the agent compiles it by itself"):
        open_it(compiled(), bundle, source="another.onnx")


@pytest.mark.fault("F15")
def test_a_tampered_plan_never_reaches_tensorrt(compiled: Compile, bundle: Bundle, card: Card) -> None:
    plan = compiled()
    data = bytearray(plan.path.read_bytes())
    data[-1] ^= 1
    plan.path.write_bytes(data)
    with pytest.raises(PlanError, match="the plan was changed or damaged"):
        open_it(plan, bundle)
    assert "deserialize_cuda_engine" not in card.log


@pytest.mark.fault("F15")
def test_code_for_the_processor_in_a_plan_is_never_run(
    compiled: Compile, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = []
    real = fake_tensorrt.Runtime.deserialize_cuda_engine

    def look(self: fake_tensorrt.Runtime, serialized_engine: bytes) -> Any:
        allowed.append(self.engine_host_code_allowed)
        return real(self, serialized_engine)

    monkeypatch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", look)
    open_it(compiled(), bundle)
    assert allowed == [False]


@pytest.mark.fault("F14")
def test_what_tensorrt_does_not_take_is_said_in_its_words_and_gives_everything_back(card: Card) -> None:
    card.probed = True
    device = Device()
    with pytest.raises(PlanRefused, match=r"TensorRT 10\.13\.3\.9 does not take the plan: Serialization") as caught:
        TensorRtBackend(pretended_gpu.tensorrt(), b"a plan of another version", device)
    assert "\n" not in str(caught.value)
    device.close()
    assert card.leaks == []


def test_a_gpu_that_fails_while_opening_is_let_go(compiled: Compile, card: Card) -> None:
    plan = compiled()
    card.fail["deserialize_cuda_engine"] = RuntimeError("CUDA error 2: out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        open_plan(plan, pretended_gpu.tensorrt(), pretended_gpu.probe())
    assert card.leaks == []


def test_the_first_load_verification_runs_on_the_opened_engine(
    compiled: Compile, bundle: Bundle, tmp_path: Path
) -> None:
    """The real verification, against ONNX Runtime: an engine that computes the model passes, a shifted one does not."""
    for shift, passes in ((0.0, True), (0.05, False)):
        plan = compiled(proved=False, shift=shift)
        engine = open_plan(plan, pretended_gpu.tensorrt(), pretended_gpu.probe())
        result = first_load(bundle, engine, about=about(plan), note=note_of(plan), threads=1)
        engine.close()
        assert result.passed is passes, result.reasons
        assert golden_input(bundle).shape[1:] == (3, 224, 224)
