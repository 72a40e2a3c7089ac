"""The ladder's cloud rung: a worker whose backend asks the cloud, and whose failures blame no picture (F26)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from engines.backend import BackendSpec, EngineError, Images, Output, Patients
from engines.backoff import Backoff
from engines.bundle import Bundle
from engines.golden import golden_check
from engines.proven import WorkerSettings
from engines.supervisor import Worker

FACTORY: Final = "engines.cloud.backend:open_backend"
HEALTH: Final = WorkerSettings(start_timeout_s=20.0, golden_timeout_s=10.0, idle_recheck_s=120.0, max_batch=4)
"""The golden image goes over the network: at the start, two minutes after work ended, every twenty minutes without any,
and with every hundredth picture."""


def _patience() -> Backoff:
    """An absent cloud costs the start of a process and an attempt each time."""
    return Backoff(base_s=0.5, cap_s=60.0)


@dataclass(frozen=True)
class CloudSettings:
    """How the cloud is asked; paths are absolute, and what they hold is read in the worker process alone."""

    url: str
    clinic_id: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None


class CloudRung:
    """A remote runner of the ladder.

    Its failures say nothing of a picture: a network that is gone would otherwise have captures refused, one by one.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def start(self) -> None:
        """Begin to try whether the cloud answers; returns at once."""
        self.worker.start()

    def stop(self) -> None:
        """End the worker."""
        self.worker.stop()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the cloud has answered the golden image."""
        return self.worker.wait_ready(timeout_s)

    def run(self, images: Images, timeout_s: float) -> Output:
        """Ask for images that are nobody's."""
        return self.run_for(images, timeout_s, (None,) * len(images))

    def run_for(self, images: Images, timeout_s: float, patients: Patients) -> Output:
        """Ask the cloud, as :meth:`engines.supervisor.Worker.run` does, and tell it whose each picture is."""
        try:
            return self.worker.run(images, timeout_s, patients)
        except EngineError as error:
            error.on_images = False
            raise

    @property
    def ready(self) -> bool:
        """Whether the cloud answered when last asked."""
        return self.worker.ready

    @property
    def typical_run_s(self) -> float | None:
        """The cloud's usual time for a picture in seconds, with the way there and back; None before the first."""
        return self.worker.typical_run_s

    @property
    def last_failure(self) -> str | None:
        """What keeps the cloud from answering, in a sentence, or did last."""
        return self.worker.last_failure

    @property
    def faults(self) -> int:
        """Failures so far."""
        return self.worker.faults


def open_rung(
    bundle: Bundle,
    cloud: CloudSettings,
    *,
    settings: WorkerSettings | None = None,
    patience: Callable[[], Backoff] = _patience,
) -> CloudRung:
    """The rung for a bundle whose signature was checked; not started yet.

    Raises:
        BundleError: the golden image cannot be decoded.
    """
    spec = BackendSpec("cloud", FACTORY, bundle.folder, asdict(cloud))
    worker = Worker(spec, golden_check(bundle), settings=settings or HEALTH, backoff=patience())
    return CloudRung(worker)
