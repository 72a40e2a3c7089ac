"""The cloud rung: whether the cloud answers the golden image, with the right numbers and in time (F26)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from agent.doctor.finding import Check, Finding, failed, in_two, ok, skipped, warning
from agent.doctor.place import Place
from agent.doctor.self_test import self_test
from agent.fallback import CLOUD, cloud_settings
from agent.model import choose_bundle
from engines.backend import BackendSpec, BundleError
from engines.cloud.rung import FACTORY, HEALTH

_LOOK: Final = "see to the network, then to 'Certificates'; then ask who runs the cloud"


def look(place: Place) -> Iterator[Finding]:
    """The golden image is nobody's: nothing of a patient is sent."""
    settings, ladder = cloud_settings(place.config), place.config.inference.ladder
    if settings is None or CLOUD not in ladder:
        yield skipped("The settings ask no cloud for answers.")
        return
    try:
        bundle = choose_bundle(place.config.inference)
    except BundleError:
        yield skipped("Not looked at: the model cannot be used.")
        return
    fault = self_test(BackendSpec(CLOUD, FACTORY, bundle.folder, asdict(settings)), bundle, HEALTH)
    if fault is None:
        yield ok(f"The cloud answers the golden image rightly ({settings.url}).")
        return
    sentence, remedy = in_two(fault, _LOOK)
    what = f"The cloud does not answer as it should: {sentence}."
    yield failed(f"{what} Nothing else may answer.", remedy) if ladder[-1] == CLOUD else warning(what, remedy)


CHECK = Check(
    name="cloud",
    title="Cloud's answers",
    looks_at="the cloud rung: the golden image is sent, and must come back with the right numbers",
    why="Where it stands in the ladder, it answers when what stands before it cannot.",
    look=look,
    limit_s=60.0,
    hung="the network does not answer: see to its cable, then restart the device",
)
