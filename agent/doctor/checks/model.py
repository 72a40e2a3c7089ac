"""The model: its signature and files, and whether it gives the golden image's numbers on this machine (F12)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from agent.doctor.finding import Check, Finding, failed, in_two, ok, warning
from agent.doctor.place import Place
from agent.doctor.self_test import self_test
from agent.model import choose_bundle
from engines.backend import BackendSpec, BundleError
from engines.bundle import Bundle
from engines.installed.ledger import Ledger
from engines.proven import WorkerSettings

_AGAIN: Final = "install the model again (dermascan engine activate BUNDLE)"
_FACTORY: Final = "engines.onnx_cpu:open_backend"
_START_S: Final = 45.0


def look(place: Place) -> Iterator[Finding]:
    """Load it as the agent does, and run its self-test in a process of its own."""
    try:
        bundle = choose_bundle(place.config.inference)
    except BundleError as error:
        yield failed(*in_two(str(error), _AGAIN))
        return
    signer = bundle.signer
    by = "the demonstration's key" if signer is None or signer.demo else signer.name
    yield ok(f"Model {bundle.label} is whole, signed by {by}.")
    yield from _given_up(place)
    yield from _golden(bundle)


def _given_up(place: Place) -> Iterator[Finding]:
    models = place.config.inference.models
    if models is None or place.config.inference.bundle is not None:
        return
    try:
        state = Ledger(models).read()
    except BundleError as error:
        yield failed(*in_two(str(error), _AGAIN))
        return
    for failure in state.failures:
        yield warning(
            f"Model {failure.installed.bundle} was tried and given up: {failure.reason}",
            "the model before it answers; tell who made it (dermascan engine list)",
        )


def _golden(bundle: Bundle) -> Iterator[Finding]:
    threads = max(1, (os.cpu_count() or 1) // 2)  # the agent answers meanwhile
    spec = BackendSpec("cpu", _FACTORY, bundle.folder, {"threads": threads})
    fault = self_test(spec, bundle, WorkerSettings(start_timeout_s=_START_S))
    if fault is None:
        yield ok("The golden image gives the right numbers on the processor.")
    else:
        sentence, remedy = in_two(fault, f"{_AGAIN}; if that does not help, this machine computes wrongly")
        yield failed(f"The self-test failed on the processor: {sentence}.", remedy)


CHECK = Check(
    name="model",
    title="Model",
    looks_at="the bundle's signature and files, models that were given up, the golden image on the processor",
    why="A damaged or exchanged model answers wrongly; the golden image shows that the numbers are right.",
    look=look,
    limit_s=120.0,
    hung="the model takes too long to load: look at the disk and the memory, then restart the device",
)
