"""The check at an engine's first load: what is wrong does not pass, and what passed is remembered for itself alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.backend import Images, Output
from engines.bundle import Bundle
from engines.onnx_cpu import open_backend
from engines.verification import first_load, passed_before
from tests.fakes import faulty_backend as fake


class Right:
    """The fabricated model."""

    def run(self, images: Images) -> Output:
        return fake.right_answer(images)

    def close(self) -> None:
        raise AssertionError("who opened an engine closes it")


class Spoilt(Right):
    """The same, but for one thing."""

    def __init__(self, spoil: str, *, only_batches: bool = False) -> None:
        self._spoil, self._only_batches = spoil, only_batches

    def run(self, images: Images) -> Output:
        output = super().run(images)
        if self._only_batches and len(images) == 1:
            return output
        probabilities, attention = output.probabilities.copy(), output.attention.copy()
        if self._spoil == "raise":
            raise RuntimeError("CUDA error 700")
        if self._spoil == "nan":
            probabilities[0, 0] = np.nan
        if self._spoil == "constant":  # the same answer to every picture, right for the golden image only
            probabilities[:] = super().run(fake.picture(1)).probabilities
        if self._spoil == "attention":
            attention = attention[:, ::-1]
        return Output(probabilities, attention)


@pytest.fixture
def small(demo: Bundle) -> Bundle:
    """The demonstration bundle with the fabricated model's input size."""
    contract = demo.manifest.input.model_copy(update={"size": fake.SIZE})
    return replace(demo, manifest=demo.manifest.model_copy(update={"input": contract}))


@pytest.mark.fault("F14")
def test_a_good_engine_passes_and_is_remembered(demo: Bundle, tmp_path: Path) -> None:
    """The real reference and a real engine, as on a device."""
    real = open_backend(demo.folder, threads=1)
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
    small: Bundle, tmp_path: Path, spoil: str, words: str, *, only_batches: bool
) -> None:
    note = tmp_path / "verification.json"
    found = first_load(small, Spoilt(spoil, only_batches=only_batches), note=note, reference=Right())
    assert not found.passed
    assert any(words in reason for reason in found.reasons)
    assert json.loads(note.read_text())["reasons"] == list(found.reasons)
    assert not passed_before(note, small)


def test_a_note_of_anything_else_says_nothing(small: Bundle, tmp_path: Path) -> None:
    note = tmp_path / "verification.json"
    first_load(small, Right(), about={"driver": "580"}, note=note, reference=Right())
    text = note.read_text()
    assert passed_before(note, small, {"driver": "580"})
    assert not passed_before(note, small, {"driver": "590"})
    for old, new in ((small.model_sha256, "0" * 64), ('"numpy": "', '"numpy": "0.'), ("{", "{{")):
        assert old in text
        note.write_text(text.replace(old, new, 1))
        assert not passed_before(note, small, {"driver": "580"})
