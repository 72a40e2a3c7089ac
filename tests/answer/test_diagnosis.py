"""The decision: the threshold decides, never the most probable class."""

from __future__ import annotations

import numpy as np
import pytest

from agent.answer import texts
from agent.answer.diagnosis import diagnose
from engines.classes import CLASSES
from engines.manifest import Manifest


def shares(primary: str, melanoma: float, top: float) -> np.ndarray:
    """Probabilities with ``melanoma`` as given, ``top`` for the primary class and the rest spread out."""
    given = {"melanoma": melanoma, primary: top} if primary != "melanoma" else {"melanoma": melanoma}
    rest = (1.0 - sum(given.values())) / (7 - len(given))
    return np.array([given.get(name, rest) for name in CLASSES], np.float32)


@pytest.mark.parametrize(
    ("primary", "melanoma", "top", "expected"),
    [
        ("melanoma", 0.9, 0.9, texts.REFER_URGENTLY),
        ("melanocytic_nevus", 0.26, 0.7, texts.REFER_URGENTLY),
        ("basal_cell_carcinoma", 0.26, 0.7, texts.REFER_URGENTLY),
        ("melanocytic_nevus", 0.25, 0.7, texts.REFER_URGENTLY),
        ("melanocytic_nevus", 0.2499, 0.7, texts.FOLLOW_SOON),
        ("melanocytic_nevus", 0.125, 0.8, texts.FOLLOW_SOON),
        ("melanocytic_nevus", 0.1249, 0.8, texts.ROUTINE),
        ("basal_cell_carcinoma", 0.2, 0.7, texts.REFER),
        ("basal_cell_carcinoma", 0.01, 0.9, texts.REFER),
        ("actinic_keratosis", 0.01, 0.9, texts.REFER),
        ("vascular_lesion", 0.01, 0.9, texts.ROUTINE),
    ],
)
@pytest.mark.requirement("R-ANS-2")
def test_recommendation(manifest: Manifest, primary: str, melanoma: float, top: float, expected: str) -> None:
    diagnosis, operating, recommendation = diagnose(shares(primary, melanoma, top), manifest)
    assert recommendation == expected
    assert diagnosis.primary == primary
    assert operating.suspicious == (diagnosis.melanoma_risk >= operating.threshold)


@pytest.mark.requirement("R-ANS-2")
def test_a_melanoma_that_is_not_the_most_probable_class_is_still_suspicious(manifest: Manifest) -> None:
    diagnosis, operating, _ = diagnose(shares("melanocytic_nevus", 0.3, 0.65), manifest)
    assert diagnosis.primary == "melanocytic_nevus"
    assert operating.suspicious


@pytest.mark.requirement("R-ANS-2")
def test_most_probable_melanoma_below_a_high_threshold_is_never_routine(manifest: Manifest) -> None:
    strict = manifest.model_copy(
        update={"operating_point": manifest.operating_point.model_copy(update={"threshold": 0.99})}
    )
    diagnosis, operating, recommendation = diagnose(shares("melanoma", 0.4, 0.4), strict)
    assert diagnosis.primary == "melanoma"
    assert not operating.suspicious
    assert recommendation == texts.FOLLOW_SOON


@pytest.mark.requirement("R-ANS-1")
def test_the_classes_keep_their_order(manifest: Manifest) -> None:
    given = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.12, 0.08], np.float32)
    diagnosis, _, _ = diagnose(given, manifest)
    assert list(diagnosis.all_classes) == list(CLASSES)
    np.testing.assert_array_equal(np.array(list(diagnosis.all_classes.values()), np.float32), given)
    assert diagnosis.melanoma_risk == pytest.approx(0.05)


def test_a_softmax_just_above_one_is_taken(manifest: Manifest) -> None:
    given = np.array([np.nextafter(np.float32(1), np.float32(2)), 0, 0, 0, 0, 0, 0], np.float32)
    assert diagnose(given, manifest)[0].melanoma_risk == 1.0


@pytest.mark.parametrize("given", [np.full(7, np.nan, np.float32), np.full(6, 1 / 6, np.float32)])
def test_numbers_that_are_none_are_refused(manifest: Manifest, given: np.ndarray) -> None:
    with pytest.raises(ValueError, match="7 finite probabilities"):
        diagnose(given, manifest)


@pytest.mark.requirement("R-ANS-3")
def test_the_texts_keep_to_the_intended_use() -> None:
    below = (texts.REFER, texts.FOLLOW_SOON, texts.ROUTINE)
    for text in (texts.REFER_URGENTLY, *below):
        assert "benign" not in text.lower()
        assert "diagnosis" not in text.lower()
    for text in below:
        assert "linical suspicion overrides" in text
    assert set(texts.CLASS_NAMES) == set(CLASSES)
    assert not any("benign" in name for name in texts.CLASS_NAMES.values())
