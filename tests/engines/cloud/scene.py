"""A ladder whose GPU is gone, a cloud on it that does as it is told, and the CPU below; in real worker processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.backoff import Backoff
from engines.bundle import Bundle, load_bundle
from engines.cloud.rung import CloudRung, CloudSettings, open_rung
from engines.golden import golden_check
from engines.ladder import Ladder, LadderResult, Rung, open_ladder
from engines.preprocess import normalise
from engines.supervisor import Worker
from tests.fakes import faulty_backend as fake
from tests.fakes.stand_in_cloud import StandInCloud, stand_in

DEADLINE_S = 3.0


def soon() -> Backoff:
    return Backoff(base_s=0.01, cap_s=0.05)


@dataclass
class Scene:
    """A GPU that is gone, a cloud, and the CPU."""

    server: StandInCloud
    bundle: Bundle
    cloud: CloudRung
    ladder: Ladder

    def ask(self, patient: str | None = None) -> LadderResult:
        return self.ladder.run(self.images, DEADLINE_S, lambda: (patient,))

    @property
    def images(self) -> np.ndarray:
        rgb = np.random.default_rng(5).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        return normalise(rgb, self.bundle.manifest.input)

    def wait_for_rung(self) -> None:
        """Wait until the ladder's own back-off of the cloud is over: 50 ms at most."""
        while not self.ladder.rungs[1].backoff.over:
            time.sleep(0.01)


@contextmanager
def scene(folder: Path, demo_bundle: Path) -> Iterator[Scene]:
    """All of it, ready to be asked."""
    bundle = load_bundle(demo_bundle)
    with stand_in(folder / "cloud", demo_bundle) as server:
        about = CloudSettings(server.url, "clinic-1", ca=str(server.ca.cert))
        cloud = open_rung(bundle, about, patience=soon)
        (folder / "gpu").mkdir()
        faults = {str(run): "raise" for run in range(1, 2000)}
        gpu = Worker(fake.spec(folder / "gpu", faults), golden_check(bundle), backoff=Backoff(base_s=600))
        cpu = open_ladder(["cpu"], bundle, threads=1).rungs[0].runner
        ladder = Ladder([Rung("tensorrt", gpu, soon()), Rung("cloud", cloud, soon()), Rung("cpu", cpu)])
        ladder.start()
        try:
            assert ladder.wait_ready(20)
            yield Scene(server, bundle, cloud, ladder)
        finally:
            ladder.stop()
