"""What happens to an answer when the GPU fails, and when the cloud that answers in its place fails too (F26)."""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.answer.pipeline import Setting, analyse
from agent.intake.capture import Capture, FileStamp
from agent.intake.picture import DecodeLimits
from agent.intake.sidecar import Sidecar
from benchmarks.captures import JPEG_XGA, distinct
from benchmarks.sync.scene import CloudProcess, until
from engines.backoff import Backoff
from engines.bundle import Bundle, demo_bundle_folder, load_bundle
from engines.cloud.rung import CloudSettings, open_rung
from engines.golden import golden_check
from engines.ladder import Ladder, Rung, open_ladder
from engines.onnx_cpu import open_backend
from engines.preprocess import crop_and_resize, normalise, preprocess
from engines.supervisor import Worker
from tests.engines.cloud.faults import QUICK, SLOW
from tests.engines.cloud.scene import DEADLINE_S, Scene, scene, soon
from tests.fakes import faulty_backend as fake
from tests.fakes.certificates import CertificateAuthority

REPOSITORY: Final = Path(__file__).resolve().parent.parent
SIZES: Final = (224, 280, 336, 448, 672)


@dataclass(frozen=True)
class Answers:
    """How long the answers took, in ms, and who gave them."""

    name: str
    ms: tuple[float, ...]
    backends: tuple[str, ...]


@dataclass(frozen=True)
class Moved:
    """How far the probabilities move by what is sent, over all views and classes."""

    what: str
    kilobytes: float
    """Of the picture, the mean."""
    most: float
    p95: float


def reference(folder: Path, captures: int = 30) -> list[Answers]:
    """Answers of the reference cloud, a process on this machine, where the GPU is gone and where it fails each time."""
    bundle = load_bundle(demo_bundle_folder())
    with ExitStack() as stack:
        ca = CertificateAuthority(folder / "ca")
        server, device = ca.server(), ca.device("device-1")
        options = ["--listen", "127.0.0.1:0", "--listen-cert", str(server.cert), "--listen-key", str(server.key)]
        process = stack.enter_context(CloudProcess(folder / "cloud.db", [*options, "--client-ca", str(ca.cert)]))
        until(lambda: process.lines, 30, "the cloud's address")
        (port,) = re.findall(r":(\d+) ", process.lines[0])
        about = CloudSettings(
            f"https://localhost:{port}", "clinic-1", ca=str(ca.cert), cert=str(device.cert), key=str(device.key)
        )
        cloud = open_rung(bundle, about, patience=soon)
        cpu = open_ladder(["cpu"], bundle, threads=1).rungs[0].runner
        found = []
        ways: dict[str, tuple[dict[str, str], Callable[[], Backoff]]] = {
            "the GPU is gone: the reference cloud answers": (
                {str(run): "raise" for run in range(1, 4000)},
                lambda: Backoff(base_s=600),
            ),
            "the GPU fails on each picture: the reference cloud answers": (
                {str(run): "raise" for run in range(2, 4000, 2)},  # the golden image in between passes
                soon,
            ),
        }
        for place, (name, (faults, patience)) in enumerate(ways.items()):
            (folder / f"gpu-{place}").mkdir()
            spec = fake.spec(folder / f"gpu-{place}", faults, bundle=demo_bundle_folder())
            gpu = Worker(spec, golden_check(bundle), backoff=patience())
            ladder = Ladder([Rung("tensorrt", gpu, soon()), Rung("cloud", cloud, soon()), Rung("cpu", cpu)])
            if place == 0:
                cloud.start()
                stack.callback(cloud.stop)
                cpu.start()
                stack.callback(cpu.stop)
            gpu.start()
            stack.callback(gpu.stop)
            if not (cloud.wait_ready(30) and cpu.wait_ready(30)):
                raise TimeoutError(f"no cloud: {cloud.last_failure}")
            found.append(_answers(name, bundle, ladder, captures, gpu if place else None))
        return found


def _answers(name: str, bundle: Bundle, ladder: Ladder, captures: int, gpu: Worker | None) -> Answers:
    """Whole analyses, from a capture's bytes to the answer; where a GPU is given, it is waited for before each."""
    setting = Setting(
        *(bundle, ladder, DecodeLimits(), DEADLINE_S, "device-1", "clinic-1", "9.9"),
        clock=lambda: datetime.now(timezone.utc),
        clock_trusted=lambda: True,
    )
    files, took, backends = distinct(JPEG_XGA), [], []
    for _ in range(captures):
        if gpu is not None:
            if not gpu.wait_ready(30):
                raise TimeoutError(f"the GPU did not come back: {gpu.last_failure}")
            until(lambda: ladder.rungs[0].backoff.over, 10, "the ladder tries the GPU again")
        data = next(files)
        started = time.monotonic()
        capture = Capture.from_bytes(Path("x.jpg"), "bench", FileStamp(0, 0, len(data), 0, 0), data)
        answer = analyse(capture, setting, "bench", Sidecar).answer
        took.append((time.monotonic() - started) * 1e3)
        backends.append(answer.backend)
    return Answers(name, tuple(took), tuple(backends))


def failures(folder: Path, rounds: int = 1) -> list[Answers]:
    """The cloud fails in each way of F26 while the GPU is gone: when the CPU has answered."""
    found = []
    with scene(folder, demo_bundle_folder()) as made:
        for name, (how, _) in {**QUICK, **SLOW}.items():
            took, backends = [], []
            for _ in range(rounds):
                _ready(made)
                made.server.be(how(made.server))
                started = time.monotonic()
                result = made.ask()
                took.append((time.monotonic() - started) * 1e3)
                made.server.be()
                backends.append(result.backend)
            found.append(Answers(name, tuple(took), tuple(backends)))
    return found


def _ready(made: Scene) -> None:
    if not made.cloud.wait_ready(30):
        raise TimeoutError(f"the cloud did not come back: {made.cloud.last_failure}")
    made.wait_for_rung()


def pictures() -> Path | None:
    """The folder of full-size captures; None where there is none."""
    folder = Path(os.environ.get("DERMASCAN_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "isic_fullsize"
    return folder if any(folder.glob("*.jpg")) else None


def moved(folder: Path) -> tuple[int, list[Moved]]:
    """Send each view as a PNG of several sizes, and as a JPEG, and compare; gives how many views there were."""
    bundle = load_bundle(demo_bundle_folder())
    contract = bundle.manifest.input
    backend = open_backend(bundle.folder)
    ways: list[tuple[int, str, list[int]]] = [(size, ".png", []) for size in SIZES]
    ways.append((contract.size, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]))
    apart: list[list[float]] = [[] for _ in ways]
    sizes: list[list[int]] = [[] for _ in ways]
    views = 0
    for view in _views(folder):
        views += 1
        here = backend.run(normalise(crop_and_resize(view, contract.size), contract)).probabilities[0]
        for place, (size, kind, options) in enumerate(ways):
            sent = cv2.imencode(kind, cv2.cvtColor(crop_and_resize(view, size), cv2.COLOR_RGB2BGR), options)[1]
            there = _rgb(cv2.imdecode(sent, cv2.IMREAD_COLOR))
            answer = backend.run(preprocess(there, contract)).probabilities[0]
            apart[place] += [float(value) for value in np.abs(answer - here)]
            sizes[place].append(len(base64.b64encode(sent.tobytes())))
    backend.close()
    return views, [
        Moved(
            f"{size} × {size} {kind[1:].upper().replace('JPG', 'JPEG, quality 95')}",
            float(np.mean(sizes[place])) / 1e3,
            max(apart[place]),
            float(np.percentile(apart[place], 95)),
        )
        for place, (size, kind, _) in enumerate(ways)
    ]


def _rgb(bgr: NDArray[Any] | None) -> NDArray[np.uint8]:
    """What OpenCV has read, in our order.

    Raises:
        ValueError: it could not be read.
    """
    if bgr is None:
        raise ValueError("a picture could not be read")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _views(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Each picture whole and its inner nine tenths, in the eight symmetries of the square."""
    for path in sorted(folder.glob("*.jpg")):
        rgb = _rgb(cv2.imread(str(path)))
        margin = [side // 20 for side in rgb.shape[:2]]
        for part in (rgb, rgb[margin[0] : -margin[0], margin[1] : -margin[1]]):
            for mirrored in (part, part[:, ::-1]):
                for quarter in range(4):
                    yield np.ascontiguousarray(np.rot90(mirrored, quarter))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        print(*reference(Path(name), 5), sep="\n")
        print(moved(pictures()))  # type: ignore[arg-type]
        print(*failures(Path(name)), sep="\n", file=sys.stderr)
