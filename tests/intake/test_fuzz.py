"""The fuzz corpus through the decoder: every file ends as a picture or in a sentence that a nurse understands."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from agent.intake.complete import is_complete
from agent.intake.decode import decode
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import Rejection
from tests.fakes.mutations import MAKERS, generated_sources, mutations

_JARGON = re.compile(r"Error|0x|Traceback|Exception|None|errno|<|\\|\{|_|decod|header|chunk|marker|byte", re.IGNORECASE)


def outcome(data: bytes, limits: DecodeLimits) -> Picture | Rejection:
    try:
        return decode(data, limits)
    except Rejection as rejection:
        return rejection


def check(count: int, seed: int, sources: list[bytes]) -> Counter[str]:
    limits = DecodeLimits()
    ends: Counter[str] = Counter()
    names = set()
    for mutation in mutations(count, seed, sources):
        assert mutation.name not in names
        names.add(mutation.name)
        is_complete(mutation.data)
        end = outcome(mutation.data, limits)
        if isinstance(end, Rejection):
            sentence = end.sentence
            assert sentence.endswith("."), (mutation.kind, sentence)
            assert 20 < len(sentence) < 160, (mutation.kind, sentence)
            assert not _JARGON.search(sentence), (mutation.kind, sentence)
            ends[f"{mutation.kind}: {end.reason.value}"] += 1
        else:
            assert end.rgb.dtype == np.uint8
            assert end.rgb.ndim == 3
            assert end.rgb.shape[2] == 3
            assert end.rgb.size <= 3 * limits.max_pixels
            ends[f"{mutation.kind}: a picture"] += 1
    return ends


@pytest.mark.fault("F05")
def test_a_short_corpus_of_generated_pictures() -> None:
    ends = check(150, 1, generated_sources())
    assert {end.split(":")[0] for end in ends} == set(MAKERS)
    # What must never be answered, and what must always be.
    for kind in ("cut", "empty", "zeros", "bomb header", "bomb pixels", "bomb jpeg", "animated"):
        assert not ends[f"{kind}: a picture"], kind
    for kind in ("as it is", "turned", "cmyk", "alpha", "16-bit png", "16-bit tiff", "odd name", "odd profile"):
        assert {end for end in ends if end.startswith(f"{kind}:")} == {f"{kind}: a picture"}, kind


def test_the_corpus_is_the_same_every_time() -> None:
    sources = generated_sources()
    assert list(mutations(60, 5, sources)) == list(mutations(60, 5, sources))
    assert [one.data for one in mutations(60, 5, sources)] != [one.data for one in mutations(60, 6, sources)]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("F05")
def test_two_thousand_files_made_from_real_pictures(shared_data: Path) -> None:
    paths = sorted((shared_data / "ham10000" / "images").iterdir())[:6]
    paths += sorted((shared_data / "isic_fullsize").iterdir())
    ends = check(2000, 2, [path.read_bytes() for path in paths])
    assert sum(ends.values()) == 2000
