"""Orders for a verification of a fabricated model on a few pictures made up here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.bundle import Bundle, load_bundle
from engines.verification.labels import find_pictures
from engines.verification.run import Order
from tests.fakes import faulty_backend as fake


@pytest.fixture(scope="session")
def demo(demo_bundle: Path) -> Bundle:
    """The demonstration bundle, checked."""
    return load_bundle(demo_bundle)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six small pictures, and their labels beside it."""
    folder = tmp_path_factory.mktemp("pictures") / "six"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        blot = cv2.resize(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8), (300, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), blot)
    (folder.parent / "labels.csv").write_text("image,label\n0,mel\n1,mel\n2,nv\n3,nv\n4,bkl\n5,df\n")
    return folder


@pytest.fixture
def make_order(tmp_path: Path, demo: Bundle, pictures: Path) -> Callable[..., Order]:
    """``make_order(faults, labels=…, images=…)``: verify a backend that goes wrong at these runs.

    Run 1 is the batch of views, 2 to 17 are the views alone, 18 and 19 the warm-up, the pictures follow.
    """
    small = demo.manifest.model_copy(update={"input": demo.manifest.input.model_copy(update={"size": fake.SIZE})})
    (tmp_path / "engine").mkdir()
    (tmp_path / "reference").mkdir()

    def make(
        faults: dict[str, str] | None = None, *, images: bool = True, labels: bool = False, run_timeout_s: float = 30.0
    ) -> Order:
        found = find_pictures(pictures, pictures.parent / "labels.csv" if labels else None) if images else []
        return Order(
            replace(demo, manifest=small),
            fake.spec(tmp_path / "engine", faults),
            pictures=tuple(found),
            folder=str(pictures),
            reference=fake.spec(tmp_path / "reference"),
            run_timeout_s=run_timeout_s,
        )

    return make
