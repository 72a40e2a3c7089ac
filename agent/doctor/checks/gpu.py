"""The GPU and its driver, asked in a process of its own, since a broken driver crashes who asks (F13)."""

from __future__ import annotations

from collections.abc import Iterator

from agent.doctor.finding import Check, Finding, failed, in_two, ok, skipped, warning
from agent.doctor.place import Place
from engines.tensorrt.gpu import NoGpu, probe_apart


def look(place: Place) -> Iterator[Finding]:
    """Without a GPU the next rung answers: slower, and as rightly."""
    ladder = place.config.inference.ladder
    if "tensorrt" not in ladder:
        yield skipped("The settings use no GPU.")
        return
    try:
        gpu = probe_apart()
    except NoGpu as error:
        sentence, remedy = in_two(str(error), "do what it says, then restart the device")
        below = ladder[ladder.index("tensorrt") + 1 :]
        if below:
            yield warning(f"No GPU: {sentence}. Captures are answered by: {', '.join(below)}.", remedy)
        else:
            yield failed(f"No GPU: {sentence}. Nothing else may answer.", remedy)
        return
    gigabytes = gpu.memory_bytes / (1 << 30)
    yield ok(f"{gpu.name}, {gigabytes:.0f} GB, driver {gpu.driver}.")


CHECK = Check(
    name="gpu",
    title="GPU and driver",
    looks_at="the NVIDIA driver's own library: the card, its memory, whether this user may open it",
    why="With the GPU an answer takes milliseconds; without it the next rung answers, more slowly.",
    look=look,
    limit_s=30.0,
    hung="the driver does not answer: restart the device",
)
