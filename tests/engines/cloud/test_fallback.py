"""The ladder with the cloud on it, in real worker processes: each failure moves on within the deadline (F26)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.backend import EngineError
from engines.bundle import load_bundle
from engines.cloud.rung import CloudSettings, open_rung
from engines.golden import golden_check
from engines.ladder import Ladder, LadderExhausted, Rung, open_ladder
from engines.supervisor import Worker
from tests.engines.cloud.faults import QUICK, SLOW
from tests.engines.cloud.scene import DEADLINE_S, Scene, soon
from tests.engines.cloud.scene import scene as open_scene
from tests.fakes import faulty_backend as fake
from tests.fakes.stand_in_cloud import Mode, stand_in

NAMES = [
    *(set(QUICK) - {"403", "404", "429", "204", "no heatmap", "above one", "another risk", "unknown primary"}),
    *SLOW,
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Iterator[Scene]:
    with open_scene(tmp_path_factory.mktemp("scene"), demo_bundle) as made:
        yield made


@pytest.mark.fault("F26")
@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_cloud_answers_for_the_gpu_and_the_cpu_for_the_cloud(scene: Scene, name: str) -> None:
    assert scene.cloud.wait_ready(20)
    scene.wait_for_rung()
    result = scene.ask("pseudonym")
    assert result.backend == "cloud", result.passed_over
    assert [rung for rung, _ in result.passed_over] == ["tensorrt"]
    assert scene.server.asked[-1].body["patient_id"] == "pseudonym"

    how, sentence = {**QUICK, **SLOW}[name]
    scene.server.be(how(scene.server))
    started = time.monotonic()
    result = scene.ask("pseudonym")
    took = time.monotonic() - started
    scene.server.be()
    assert result.backend == "cpu"
    assert took < DEADLINE_S
    assert [rung for rung, _ in result.passed_over] == ["tensorrt", "cloud"]
    why = dict(result.passed_over)["cloud"]
    assert re.search(sentence, why)
    assert "pseudonym" not in why


@pytest.mark.fault("F26")
def test_a_cloud_that_was_never_there_is_used_once_it_is(scene: Scene) -> None:
    scene.server.be(Mode(refuse=True))
    settings = CloudSettings(scene.server.url, "clinic-1", ca=str(scene.server.ca.cert))
    rung = open_rung(scene.bundle, settings, patience=soon)
    rung.start()
    try:
        assert not rung.wait_ready(0.5)
        while rung.last_failure is None:
            time.sleep(0.01)
        assert "could not be reached" in rung.last_failure
        scene.server.be()
        assert rung.wait_ready(20)
        assert rung.faults >= 1
        assert rung.typical_run_s is not None
    finally:
        rung.stop()


@pytest.mark.fault("F26")
def test_a_cloud_that_is_gone_is_no_picture_s_fault(scene: Scene) -> None:
    """With nothing else on the ladder the capture waits for the network; it is never refused for it."""
    assert scene.cloud.wait_ready(20)
    alone = Ladder([Rung("cloud", scene.cloud, soon())], grace_s=1.0)
    scene.server.be(Mode(reply=lambda right: None))
    with pytest.raises(LadderExhausted) as caught:
        alone.run(scene.images, 1.0)
    scene.server.be()
    assert not caught.value.engine_was_healthy


def test_captures_that_wait_together_each_keep_their_patient(scene: Scene) -> None:
    assert scene.cloud.wait_ready(20)
    scene.server.asked.clear()
    scene.server.be(Mode(pause_s=0.2))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(scene.cloud.run_for, scene.images, 10.0, (f"patient-{n}",)) for n in range(4)]
        for future in asked:
            np.testing.assert_allclose(future.result(20).probabilities[0, 0], 0.4, atol=1e-6)
    scene.server.be()
    assert sorted(one.body["patient_id"] for one in scene.server.asked) == [f"patient-{n}" for n in range(4)]


def test_a_cloud_with_another_model_never_gets_ready(tmp_path: Path, scene: Scene, demo_bundle: Path) -> None:
    with stand_in(tmp_path, demo_bundle) as server:
        server.be(Mode(change=lambda right: right.update(model_version="demo/0.0.1")))
        rung = open_rung(scene.bundle, CloudSettings(server.url, "c", ca=str(server.ca.cert)), patience=soon)
        rung.start()
        try:
            while rung.last_failure is None:
                time.sleep(0.01)
            assert "golden image: running: the cloud runs another model than demo/" in rung.last_failure
            with pytest.raises(EngineError):
                rung.run(scene.images, 0.05)
        finally:
            rung.stop()


def test_a_ladder_with_the_cloud_needs_to_be_told_which(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    with pytest.raises(ValueError, match=r"\[cloud\]"):
        open_ladder(["cloud", "cpu"], bundle)
    ladder = open_ladder(["cloud", "cpu"], bundle, cloud=CloudSettings("https://localhost:1", "c"))
    assert [rung.name for rung in ladder.rungs] == ["cloud", "cpu"]


@pytest.mark.fault("F26")
def test_a_gpu_that_fails_at_work_is_replaced_by_the_cloud_and_used_again_once_it_is_back(
    tmp_path: Path, scene: Scene, demo_bundle: Path
) -> None:
    assert scene.cloud.wait_ready(20)
    spec = fake.spec(tmp_path, {"2": "raise"}, bundle=demo_bundle)
    gpu = Worker(spec, golden_check(scene.bundle), backoff=soon())
    ladder = Ladder([Rung("tensorrt", gpu, soon()), *scene.ladder.rungs[1:]])
    gpu.start()
    try:
        assert gpu.wait_ready(20)
        first = ladder.run(scene.images, DEADLINE_S, lambda: (None,))
        assert first.backend == "cloud"
        assert "CUDA error" in dict(first.passed_over)["tensorrt"]
        assert gpu.wait_ready(20)
        while not ladder.rungs[0].backoff.over:
            time.sleep(0.01)
        assert ladder.run(scene.images, DEADLINE_S, lambda: (None,)).backend == "tensorrt"
    finally:
        gpu.stop()
