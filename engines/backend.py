"""What a backend is: the one interface behind which ONNX Runtime, TensorRT and the cloud look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
"""``[N, 3, S, S]`` float32, RGB, normalised as the bundle's manifest says (see ``engines.preprocess``)."""

Patients: TypeAlias = tuple[str | None, ...]
"""Whose each picture is, as the pseudonym that may leave the clinic, never the patient's own id (F30); None where it is
not known. Empty where nobody is to be told."""


@dataclass(frozen=True)
class Output:
    """What one run gives back.

    ``probabilities`` is ``[N, 7]`` float32 in the order of ``engines.classes.CLASSES``, each row summing to 1;
    ``attention`` is ``[N, 14, 14]`` float32, the class token's attention over the patches, mean over heads.
    """

    probabilities: NDArray[np.float32]
    attention: NDArray[np.float32]

    def split(self, counts: Sequence[int]) -> list[Output]:
        """The outputs of the parts of a batch, whose numbers of pictures are ``counts``, in order."""
        ends = np.cumsum(counts)[:-1]
        parts = zip(np.split(self.probabilities, ends), np.split(self.attention, ends), strict=True)
        return [Output(probabilities, attention) for probabilities, attention in parts]


class Backend(Protocol):
    """Something that runs a bundle's model. It lives in the worker process and is used by one thread."""

    def run(self, images: Images) -> Output:
        """Run the model on a batch; may raise anything, the worker turns it into :class:`BackendFailed`."""

    def close(self) -> None:
        """Give memory and devices back."""


@runtime_checkable
class RemoteBackend(Backend, Protocol):
    """A backend that asks another machine, and so must know more than the images."""

    def run_for(self, images: Images, patients: Patients, within_s: float) -> Output:
        """Run the model elsewhere.

        Args:
            images: as for :meth:`run`.
            patients: one for each image, or none at all.
            within_s: seconds until the process is ended; to be left with an error of its own before that.
        """


@dataclass(frozen=True)
class BackendSpec:
    """How the worker process makes its backend; plain data, so that it travels to the process.

    ``factory`` is ``"package.module:function"``; the function is called as ``function(bundle_folder, **options)``.
    """

    name: str
    factory: str
    bundle: Path
    options: Mapping[str, object] = field(default_factory=dict)


class EngineError(Exception):
    """An engine could not give an answer; the capture goes to the next rung. The message says what happened."""

    def __init__(self, message: str, *, on_images: bool = False) -> None:
        super().__init__(message)
        self.on_images = on_images
        """True where an engine that had passed its golden image failed while at work on these very images."""

    def retold(self, *, on_images: bool) -> EngineError:
        """The same for one of several callers, without the traceback of the thread in which it happened.

        That one holds every caller's request, and a request its error: pictures in such a circle stay in memory until
        Python looks for circles, which it does within seconds or within an hour.
        """
        return type(self)(str(self), on_images=on_images)


class BackendFailed(EngineError):
    """The backend raised, gave numbers that cannot be right, or failed its golden image."""


class WorkerDied(EngineError):
    """The worker process ended while it had work, or could not be started."""


class DeadlineExceeded(EngineError):
    """No answer within the time given; the worker was killed."""


class NotReady(EngineError):
    """The images were never begun: the worker is starting, backing off, busy or stopped for all of the time given."""


class BundleError(Exception):
    """A bundle cannot be used. The message names the file, what is wrong and what to do."""
