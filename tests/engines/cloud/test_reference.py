"""The cloud rung against this repository's reference cloud: the same bundle gives the same answer on both sides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud.analyser import Analyser
from cloud.server import CloudServer, Doorkeeper, server_context
from engines.bundle import Bundle, load_bundle
from engines.cloud.rung import CloudSettings, open_rung
from engines.ladder import Ladder, Rung, open_ladder
from engines.preprocess import crop_and_resize, normalise
from tests.fakes.certificates import CertificateAuthority

TOKEN = "t0ken-of-device-1"  # noqa: S105


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Iterator[Ladder]:
    """The reference cloud's answers on the first rung, the device's own on the second."""
    folder = tmp_path_factory.mktemp("reference")
    ca = CertificateAuthority(folder)
    shown = ca.server()
    (folder / "token").write_text(TOKEN)
    analyser = Analyser(bundle, ladder=(theirs := open_ladder(["cpu"], bundle, threads=1)))
    doorkeeper = Doorkeeper(server_context(str(shown.cert), str(shown.key), None), TOKEN)
    server = CloudServer(("127.0.0.1", 0), analyser, doorkeeper)
    url = f"https://localhost:{server.server_port}"
    about = CloudSettings(url, "clinic-1", ca=str(ca.cert), token_file=str(folder / "token"))
    ours = Ladder([Rung("cloud", open_rung(bundle, about)), *open_ladder(["cpu"], bundle, threads=1).rungs])
    theirs.start()
    server.start()
    ours.start()
    yield ours
    ours.stop()
    server.stop()
    theirs.stop()


def test_the_golden_image_passes_and_the_answers_are_the_same(
    ladder: Ladder, bundle: Bundle, shared_data: Path
) -> None:
    for rung in ladder.rungs:
        assert rung.runner.wait_ready(25), rung.runner.last_failure
    for path in sorted((shared_data / "isic_fullsize").glob("*.jpg")):
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        images = normalise(crop_and_resize(rgb, bundle.manifest.input.size), bundle.manifest.input)
        started = time.monotonic()
        result = ladder.run(images, 3.0, lambda: ("0" * 64,))
        assert time.monotonic() - started < 3.0
        assert result.backend == "cloud", result.passed_over
        here = ladder.rungs[1].runner.run(images, 10.0)
        np.testing.assert_allclose(result.output.probabilities, here.probabilities, atol=1e-5)
        assert np.corrcoef(result.output.attention.ravel(), here.attention.ravel())[0, 1] > 0.8
