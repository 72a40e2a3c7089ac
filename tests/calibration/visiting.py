"""A technician's visit for tests: shots of synthetic charts as files, documents made from them, commands called."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.commands import register, run
from calibration.commands.desk import Desk
from calibration.correction.gates import Limits
from calibration.shelf.clock import Clock
from calibration.shelf.profile import Profile, seal_profile
from calibration.shelf.reading import Shelf
from calibration.shelf.verification import Verification, seal_verification
from calibration.shelf.writing import activate, put_profile, put_verification
from calibration.visit.look import Order, find
from calibration.visit.pictures import read_picture
from calibration.visit.steps import Files, Who, make_flat_field, make_profile, make_verification
from tests.fakes.charts import DULL, WARM, Camera, Picture, dermoscope_tiles, render_chart, white_frame

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=timezone.utc)
CAMERA = Camera(matrix=DULL, illuminant=(1.05, 1.0, 0.85), exposure=0.8, vignette=0.3, blur=0.6)
OTHER_LAMP = replace(CAMERA, illuminant=WARM, exposure=0.6)
SIZE = (384, 512)
WHO = Who("scope-1", "Ana Lopes", "the dermoscope's own light", "4711", "1.2.3")


@lru_cache(maxsize=32)
def shot(kind: str) -> Picture:
    """A picture by its name; the same one at each call."""
    if kind.startswith("white"):
        return white_frame(camera=CAMERA, size=SIZE, seed=int(kind[5:]))
    if kind == "lamp":
        return render_chart(camera=OTHER_LAMP, size=SIZE, fill=0.75, rotation=4, seed=9).rgb
    if kind == "skin":
        noise = np.random.default_rng(1).normal(0.0, 4.0, (*SIZE, 3))
        return np.clip(np.array([190, 140, 120]) + noise, 0, 255).astype(np.uint8)
    if kind.startswith("tile"):
        return _tiles()[int(kind[4:])]
    return render_chart(camera=CAMERA, size=SIZE, fill=0.8, rotation=2.0 * int(kind[5:]), seed=int(kind[5:])).rgb


@lru_cache(maxsize=1)
def _tiles() -> list[Picture]:
    return [tile.rgb for tile in dermoscope_tiles(camera=CAMERA, size=SIZE)]


def file_of(folder: Path, kind: str) -> Path:
    """A picture as a file."""
    path = folder / f"{kind}.png"
    if not path.exists():
        Image.fromarray(shot(kind)).save(path, compress_level=1)
    return path


@lru_cache(maxsize=1)
def fitted() -> tuple[Profile, Files]:
    """A profile with a flat field, of ``NOW``, and its files."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flat, gain = make_flat_field([read_picture(file_of(folder, f"white{n}")) for n in range(2)], NOW)
        look = find([read_picture(file_of(folder, "chart1"))], Order(), gain)
    return make_profile(look, (flat, gain), WHO, NOW, limits=Limits())


@lru_cache(maxsize=1)
def verified() -> tuple[Verification, Files]:
    """A passing verification of ``fitted``."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, gain = make_flat_field([read_picture(file_of(folder, f"white{n}")) for n in range(2)], NOW)
        look = find([read_picture(file_of(folder, "chart2"))], Order(), gain)
    return make_verification(look, fitted()[0], WHO, NOW, commissioning=None, limits=Limits())


def variant(**changes: object) -> Profile:
    """``fitted`` with something else in it, sealed anew."""
    return seal_profile(fitted()[0].model_copy(update=changes))


def verification_of(profile: Profile, **changes: object) -> Verification:
    """``verified`` for another profile, sealed anew."""
    return seal_verification(verified()[0].model_copy(update={"profile_id": profile.profile_id, **changes}))


@dataclass(frozen=True)
class Said:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """``out`` without its line breaks."""
        return " ".join(self.out.split())


class Technician:
    """Calls commands in this process, as one who types them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder, NOW
        self._capsys = capsys
        self.state = folder / "state"
        patch.setattr(run, "Desk", lambda arguments: Desk(arguments, Clock(lambda: self.now)))

    def types(self, verb: str, *words: str | Path, at: bool = True) -> Said:
        """A command with the usual options (``at=False``: without)."""
        usual = ["--state-dir", self.state, "--dermoscope", "scope-1", "--operator", "Ana Lopes"] if at else []
        parser = argparse.ArgumentParser(prog="dermascan")
        register(parser.add_subparsers(required=True))
        words_before = [verb] if verb else []
        arguments = parser.parse_args(["calibrate", *words_before, *map(str, usual), *map(str, words)])
        self._capsys.readouterr()
        code = arguments.run(arguments)
        said = self._capsys.readouterr()
        return Said(code, said.out, said.err)

    def has(self, kind: str) -> Path:
        """A picture on the technician's disk."""
        return file_of(self.folder, kind)

    def fits(self) -> Profile:
        """A fitted profile on the shelf, from ``chart1``, without the wait."""
        put_profile(Shelf(self.state / "calibration"), fitted()[0], fitted()[1])
        return fitted()[0]

    def activates(self) -> Profile:
        """The same, verified with ``chart2`` and in use."""
        shelf, profile = Shelf(self.state / "calibration"), self.fits()
        put_verification(shelf, *verified())
        activate(shelf, profile, WHO.operator, NOW)
        return profile
