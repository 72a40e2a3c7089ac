"""The check at an engine's first load: what is wrong does not pass, and what passed is remembered for itself alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engines.backend import Backend, Images, Output
from engines.bundle import Bundle
from engines.onnx_cpu import open_backend
from engines.verification import first_load, passed_before


class Spoilt:
    """A real engine whose answers are changed."""

    def __init__(self, real: Backend, spoil: str, *, only_batches: bool = False) -> None:
        self._real, self._spoil, self._only_batches = real, spoil, only_batches

    def run(self, images: Images) -> Output:
        output = self._real.run(images)
        if self._only_batches and len(images) == 1:
            return output
        probabilities, attention = output.probabilities.copy(), output.attention.copy()
        if self._spoil == "raise":
            raise RuntimeError("CUDA error 700")
        if self._spoil == "nan":
            probabilities[0, 0] = np.nan
        if self._spoil == "constant":  # the same answer to every picture, right for the golden image only
            probabilities[:] = probabilities[0] if len(images) > 1 else self._real.run(images * 0).probabilities
        if self._spoil == "attention":
            attention = attention[:, ::-1]
        return Output(probabilities, attention)

    def close(self) -> None:
        self._real.close()


@pytest.fixture(scope="module")
def real(demo: Bundle) -> Backend:
    return open_backend(demo.folder, threads=1)


@pytest.mark.fault("F14")
def test_a_good_engine_passes_and_is_remembered(demo: Bundle, real: Backend, tmp_path: Path) -> None:
    note, about = tmp_path / "verification.json", {"gpu": "one", "driver": "580"}
    assert not passed_before(note, demo, about)
    found = first_load(demo, real, about=about, note=note, threads=1)
    assert found.passed
    assert found.reasons == ()
    assert found.comparison is not None
    assert found.comparison.images == 32
    assert passed_before(note, demo, about)
    assert list(tmp_path.iterdir()) == [note]


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("raise", "RuntimeError: CUDA error 700"),
        ("nan", "not numbers"),
        ("constant", "largest difference of a probability"),
        ("attention", "attention's correlation"),
    ],
)
@pytest.mark.parametrize("only_batches", [False, True])
def test_an_engine_that_miscompiled_does_not_pass(
    demo: Bundle, real: Backend, tmp_path: Path, spoil: str, words: str, *, only_batches: bool
) -> None:
    note = tmp_path / "verification.json"
    found = first_load(demo, Spoilt(real, spoil, only_batches=only_batches), note=note, threads=1)
    assert not found.passed
    assert any(words in reason for reason in found.reasons)
    assert json.loads(note.read_text())["reasons"] == list(found.reasons)
    assert not passed_before(note, demo)


def test_a_note_of_anything_else_says_nothing(demo: Bundle, real: Backend, tmp_path: Path) -> None:
    note = tmp_path / "verification.json"
    first_load(demo, real, about={"driver": "580"}, note=note, reference=real)
    text = note.read_text()
    assert passed_before(note, demo, {"driver": "580"})
    assert not passed_before(note, demo, {"driver": "590"})
    for old, new in ((demo.model_sha256, "0" * 64), ('"numpy": "', '"numpy": "0.'), ("{", "{{")):
        assert old in text
        note.write_text(text.replace(old, new, 1))
        assert not passed_before(note, demo, {"driver": "580"})
