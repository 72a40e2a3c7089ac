"""An order becomes a plan, by the names that each TensorRT has; whatever it refuses is told in a sentence.

These run on fakes that have exactly the names of the real 8.6.1, 10.3.0 and 11.4.0; ``test_real_builder`` compiles.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle
from engines.tensorrt.builder import CompileOrder, compile_plan, plan_key
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.order import choose_recipe, orders_to_try
from engines.tensorrt.plans import Plan, PlanError, find_plan
from engines.tensorrt.versions import RTX, describe
from tests.fakes.small_vit import BLOCKS, SIZE, small_bundle
from tests.fakes.tensorrt_builder import FakeTensorRT

T4 = Gpu("Tesla T4", (7, 5), 16 << 30, "550.54")
ORIN = Gpu("Jetson AGX Orin", (8, 7), 32 << 30, "L4T 36.4", tegra=True)
PLAIN = CompileOrder()
HELD = (2 * BLOCKS + 1) + (BLOCKS + 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle", demo_bundle)


@pytest.fixture(scope="module")
def without_fp16(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("single") / "bundle", demo_bundle, fp16=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def build(
    fake: FakeTensorRT, bundle: Bundle, cache: Path, order: CompileOrder = PLAIN, gpu: Gpu = T4, **more: Any
) -> Plan:
    return compile_plan(bundle, order, cache=cache, tensorrt=describe(fake), gpu=gpu, **more)


def told(plan: Plan) -> dict[str, Any]:
    """How the fake built it."""
    found: dict[str, Any] = json.loads(plan.read())
    return found


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0"])
def test_strongly_typed_where_there_is_such_a_thing(version: str, bundle: Bundle, cache: Path) -> None:
    plan = build(FakeTensorRT(version), bundle, cache, CompileOrder(max_batch=4, optimisation_level=5))
    how = told(plan)
    assert how["strong"]
    assert how["flags"] == []  # neither FP16 nor TF32, and no VERSION_COMPATIBLE, whose plans hold host code (F15)
    assert how["held"] == []
    assert how["shapes"] == {"images": [[1, 3, SIZE, SIZE], [1, 3, SIZE, SIZE], [4, 3, SIZE, SIZE]]}
    assert how["pools"] == {}
    assert how["level"] == 5
    assert (plan.key.source, plan.key.flags["typing"]) == ("model.fp16.onnx", "strong")


@pytest.mark.parametrize(("version", "typing"), [("8.6.1", "auto"), ("8.6.1", "weak"), ("10.3.0", "weak")])
def test_weakly_typed_with_norms_and_softmax_held(version: str, typing: Any, bundle: Bundle, cache: Path) -> None:
    plan = build(FakeTensorRT(version), bundle, cache, CompileOrder(typing=typing))
    how = told(plan)
    assert not how["strong"]
    assert how["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert len(how["held"]) == HELD
    assert (plan.key.source, plan.key.flags["typing"]) == ("model.onnx", "weak")
    assert how["layers"].count("UNARY") == (BLOCKS if version == "8.6.1" else 0)  # Erf, where Gelu is not known


def test_a_bundle_without_the_fp16_graph(without_fp16: Bundle, cache: Path) -> None:
    """TensorRT 10 can choose by itself, openly; 11 cannot, and says what to do."""
    assert told(build(FakeTensorRT("10.3.0"), without_fp16, cache))["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    with pytest.raises(
        PlanError, match=r"model\.fp16\.onnx: the bundle has none.*engine export, or .*--precision fp32"
    ):
        build(FakeTensorRT("11.4.0"), without_fp16, cache)
    with pytest.raises(PlanError, match="the bundle has none"):
        build(FakeTensorRT("10.3.0"), without_fp16, cache, CompileOrder(typing="strong"))


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
def test_fp32_on_request(version: str, without_fp16: Bundle, cache: Path) -> None:
    plan = build(FakeTensorRT(version), without_fp16, cache, CompileOrder(precision="fp32"))
    assert told(plan)["flags"] == []
    assert plan.key.flags["precision"] == "fp32"


@pytest.mark.parametrize(("version", "typing"), [("8.6.1", "strong"), ("11.4.0", "weak")])
def test_a_typing_that_is_not_to_be_had_is_refused(version: str, typing: Any, bundle: Bundle) -> None:
    with pytest.raises(PlanError, match=f"{version} has no {typing}ly typed networks"):
        choose_recipe(bundle, CompileOrder(typing=typing), describe(FakeTensorRT(version)))


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_batch": 65}, {"optimisation_level": 6}])
def test_a_wrong_order_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be \d"):
        CompileOrder(**wrong)  # type: ignore[arg-type]


def test_working_memory_is_bounded_where_the_cpu_shares_it(bundle: Bundle, cache: Path) -> None:
    assert told(build(FakeTensorRT("10.3.0"), bundle, cache, gpu=ORIN))["pools"] == {"WORKSPACE": 8 << 30}
    order = CompileOrder(workspace_bytes=1 << 20)
    assert told(build(FakeTensorRT("10.3.0"), bundle, cache, order))["pools"] == {"WORKSPACE": 1 << 20}


@pytest.mark.fault("F14")
def test_the_key_is_of_all_that_makes_the_plan(bundle: Bundle) -> None:
    def key(order: CompileOrder = PLAIN, version: str = "10.3.0", gpu: Gpu = T4, device: str = "x") -> str:
        found = plan_key(bundle, order, tensorrt=describe(FakeTensorRT(version)), gpu=gpu, device=device)
        assert found.model_sha256 == bundle.model_sha256
        assert found.source_sha256 == bundle.manifest.files[found.source]
        return found.digest

    different = [
        key(),
        key(version="11.4.0"),
        key(gpu=ORIN),
        key(gpu=replace(T4, driver="560.1")),
        key(device="y"),
        key(CompileOrder(max_batch=2)),
        key(CompileOrder(precision="fp32")),
        key(CompileOrder(typing="weak")),
        key(CompileOrder(workspace_bytes=1)),
        key(CompileOrder(optimisation_level=1)),
        key(CompileOrder(via="torch-tensorrt")),
    ]
    assert len(set(different)) == len(different)
    assert key(CompileOrder(typing="strong")) == key()  # what "auto" chose


def test_a_plan_is_compiled_once(bundle: Bundle, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeTensorRT("10.3.0")
    first = build(fake, bundle, cache)
    assert build(fake, bundle, cache) == first
    assert fake.builds == 1
    assert build(fake, bundle, cache, force=True).key == first.key
    assert fake.builds == 2
    first.path.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        build(fake, bundle, cache)
    assert fake.builds == 3
    assert "compiled anew" in caplog.text
    assert find_plan(cache, first.key) is not None


@pytest.mark.fault("F15")
def test_a_graph_exchanged_since_it_was_checked_is_not_compiled(tmp_path: Path, demo_bundle: Path, cache: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", demo_bundle)
    other = small_bundle(tmp_path / "other", demo_bundle, seed=1)
    path = bundle.folder / "model.fp16.onnx"
    path.write_bytes((other.folder / "model.fp16.onnx").read_bytes())
    fake = FakeTensorRT("10.3.0")
    with pytest.raises(PlanError, match=r"fp16\.onnx: the file was changed or damaged since it was signed"):
        build(fake, bundle, cache)
    path.unlink()
    with pytest.raises(PlanError, match=r"fp16\.onnx: cannot be read"):
        build(fake, bundle, cache)
    assert fake.builds == 0


def test_the_timing_cache_is_kept_and_a_damaged_one_is_dropped(bundle: Bundle, cache: Path) -> None:
    fake = FakeTensorRT("10.3.0")
    build(fake, bundle, cache)
    (path,) = (cache / "timing").iterdir()
    assert path.name == "tensorrt-10.3.0-Tesla-T4-7.5.cache"
    build(fake, bundle, cache, force=True)
    path.write_bytes(path.read_bytes()[:-1])
    build(fake, bundle, cache, force=True)
    path.write_bytes(hashlib.sha256(b"foreign").digest() + b"foreign")  # whole, but not one that TensorRT takes
    build(fake, bundle, cache, force=True)
    assert [line.split()[3] for line in fake.log] == ["0", "8", "0", "0"]


def test_a_timing_cache_that_cannot_be_written_costs_nothing_but_time(
    bundle: Bundle, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    (cache / "timing").write_text("in the way")
    build(FakeTensorRT("10.3.0"), bundle, cache)
    assert "the timing cache cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("refuse", "said", "words"),
    [
        ("builder", "", r"TensorRT 10\.3\.0 failed: TypeError: pybind11::init\(\): factory function returned nullptr"),
        ("network", "", r"made no network: TensorRT did not say why"),
        ("config", "", r"made no builder configuration"),
        ("profile", "", r"refuses batches of 1 to 8"),
        (
            "build",
            "[virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (Requested size was 1 bytes.)",
            r"built no plan: OutOfMemory .*too little GPU memory.*smaller --max-batch",
        ),
        (
            "build",
            "10: [o.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any implementation for x.)",
            r"built no plan: Internal Error \(Could not find any implementation.*update TensorRT",
        ),
        ("build", "something never heard of", r"built no plan: something never heard of; see TensorRT's documentation"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_one_sentence(
    bundle: Bundle, cache: Path, refuse: str, said: str, words: str
) -> None:
    fake = FakeTensorRT("10.3.0")
    kept = build(fake, bundle, cache, CompileOrder(max_batch=2))
    fake.refuse[refuse] = said
    with pytest.raises(PlanError, match=words) as caught:
        build(fake, bundle, cache)
    assert "\n" not in str(caught.value)
    assert str(bundle.folder) in str(caught.value) or refuse == "network"
    assert find_plan(cache, kept.key) == kept


def test_a_card_without_fast_fp16_is_told(bundle: Bundle, cache: Path) -> None:
    fake = FakeTensorRT("8.6.1")
    fake.refuse["fast fp16"] = ""
    with pytest.raises(PlanError, match="Tesla T4 has no fast FP16; compile with --precision fp32"):
        build(fake, bundle, cache)


def test_progress_is_told_and_only_grows(bundle: Bundle, cache: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    fake = FakeTensorRT("10.3.0")

    def phases(monitor: Any) -> None:
        monitor.phase_start("Building", None, 4)
        for step in range(2):
            assert monitor.step_complete("Building", step)
        monitor.phase_start("Tactics", "Building", 10)
        for step in range(10):
            assert monitor.step_complete("Tactics", step)
        monitor.phase_finish("Tactics")
        monitor.phase_start("Other", "Building", 0)  # TensorRT promises steps that never come, and none
        monitor.phase_finish("Other")
        monitor.phase_finish("Building")

    fake.progress = phases
    compile_plan(
        bundle,
        CompileOrder(),
        lambda what, share: seen.append((what, share)),
        cache=cache,
        tensorrt=describe(fake),
        gpu=T4,
    )
    shares = [share for _, share in seen if share is not None]
    assert shares == sorted(shares)
    assert ("building: Tactics", 0.55) in [(what, share and round(share, 3)) for what, share in seen]
    assert max(shares) == pytest.approx(0.75)
    assert [what for what, share in seen if share is None] == [
        "reading the graph",
        "parsing the graph",
        "building",
        "writing the plan",
    ]


@pytest.mark.fault("F14")
def test_what_to_try_where_a_plan_gives_wrong_numbers(bundle: Bundle, without_fp16: Bundle) -> None:
    def typings(version: str, of: Bundle = bundle, order: CompileOrder = PLAIN) -> list[str]:
        return [tried.typing for tried in orders_to_try(of, order, describe(FakeTensorRT(version)))]

    assert typings("10.3.0") == ["auto", "weak"]
    assert typings("8.6.1") == typings("11.4.0") == ["auto"]  # there is one way only
    assert typings("10.3.0", without_fp16) == ["auto"]  # which is the weak one already
    assert typings("10.3.0", order=CompileOrder(typing="strong")) == ["strong"]


def test_torch_tensorrt_makes_no_plans_for_rtx(bundle: Bundle) -> None:
    rtx = replace(describe(FakeTensorRT("11.4.0")), product=RTX)
    with pytest.raises(PlanError, match="makes plans for TensorRT, not for TensorRT-RTX"):
        choose_recipe(bundle, CompileOrder(via="torch-tensorrt"), rtx)


def test_torch_tensorrt_needs_the_build_stage(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.tensorrt.builder._TORCH_MAKER", ("build.nowhere", "make_plan"))
    with pytest.raises(PlanError, match=r"needs the build stage, which is not installed here.*--via onnx"):
        build(FakeTensorRT("11.4.0"), bundle, cache, CompileOrder(via="torch-tensorrt"))


def test_torch_tensorrt_is_given_the_graph_and_keeps_the_contract(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class Maker:
        @staticmethod
        def make_plan(path: Path, graph: bytes, **order: Any) -> bytes:
            given.update(order, path=path, graph=graph)
            return b"plan by torch"

    monkeypatch.setattr("engines.tensorrt.builder.importlib.import_module", lambda name: Maker)
    plan = build(FakeTensorRT("11.4.0"), bundle, cache, CompileOrder(via="torch-tensorrt", max_batch=3))
    assert plan.read() == b"plan by torch"
    assert given["graph"] == bundle.model_path.read_bytes()
    assert (given["half"], given["max_batch"], given["optimisation_level"]) == (True, 3, 3)
    assert plan.key.flags["via"].startswith("torch-tensorrt ")
