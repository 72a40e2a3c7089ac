"""What things are called in the reports: codes of public schemes where they mean the same, else our own.

The model's classes follow the public data sets they were learnt from, and three of them hold more than one disease
(lichenoid and seborrhoeic keratoses and solar lentigines together, all vascular lesions) or are named too loosely for
one concept: these keep our own code, since a code of SNOMED CT would say more than the model did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SNOMED: Final = "SCT"
"""DICOM's designator of SNOMED CT."""
PRIVATE: Final = "99DERMASCAN"
"""Ours; "99" marks private schemes in DICOM (PS3.16, 8.2)."""
SYSTEMS: Final = {
    SNOMED: "http://snomed.info/sct",
    PRIVATE: "urn:dermascan:codes",
    "UCUM": "http://unitsofmeasure.org",
}
"""The same schemes' names in FHIR."""


@dataclass(frozen=True)
class Code:
    """A coded concept. ``value`` has at most 16 characters and ``meaning`` at most 64, as DICOM wants."""

    value: str
    scheme: str
    meaning: str


CLASSES: Final = {
    "melanoma": Code("93655004", SNOMED, "Malignant melanoma of skin"),
    "basal_cell_carcinoma": Code("254701007", SNOMED, "Basal cell carcinoma of skin"),
    "benign_keratosis": Code("BKL", PRIVATE, "Seborrhoeic or lichenoid keratosis, or solar lentigo"),
    "dermatofibroma": Code("DF", PRIVATE, "Dermatofibroma"),
    "melanocytic_nevus": Code("400096001", SNOMED, "Melanocytic nevus"),
    "vascular_lesion": Code("VASC", PRIVATE, "Vascular lesion of skin"),
    "actinic_keratosis": Code("201101007", SNOMED, "Actinic keratosis"),
}
PROBABILITIES: Final = {
    "melanoma": Code("P-MEL", PRIVATE, "Class probability: melanoma"),
    "basal_cell_carcinoma": Code("P-BCC", PRIVATE, "Class probability: basal cell carcinoma"),
    "benign_keratosis": Code("P-BKL", PRIVATE, "Class probability: seborrhoeic or lichenoid keratosis"),
    "dermatofibroma": Code("P-DF", PRIVATE, "Class probability: dermatofibroma"),
    "melanocytic_nevus": Code("P-NV", PRIVATE, "Class probability: melanocytic naevus"),
    "vascular_lesion": Code("P-VASC", PRIVATE, "Class probability: vascular lesion"),
    "actinic_keratosis": Code("P-AK", PRIVATE, "Class probability: actinic keratosis"),
}
"""The model's outputs, in its order; they sum to 1, and are no statistics of patients."""

REPORT: Final = Code("DERMOSCOPY-AI", PRIVATE, "Dermoscopic image analysis by a model (adjunct)")
RISK: Final = Code("MEL-RISK", PRIVATE, "Melanoma risk (model output, 0 to 1)")
PROBABILITY_SET: Final = Code("CLASS-PROBS", PRIVATE, "Class probabilities of the model")
THRESHOLD: Final = Code("MEL-THRESHOLD", PRIVATE, "Operating threshold of the melanoma risk")
AGAINST_THRESHOLD: Final = Code("OPERATING-RESULT", PRIVATE, "Melanoma risk against the operating threshold")
AT_OR_ABOVE: Final = Code("AT-OR-ABOVE", PRIVATE, "At or above the operating threshold: suspicious")
BELOW: Final = Code("BELOW", PRIVATE, "Below the threshold; clinical suspicion overrides")
SUGGESTION: Final = Code("SUGGESTION", PRIVATE, "Suggested class (adjunct; not a diagnosis)")
VERDICT: Final = Code("VERDICT", PRIVATE, "Verdict on this scan, given by a person")
VERDICT_SOURCE: Final = Code("VERDICT-SOURCE", PRIVATE, "What the verdict rests on")
VERDICT_TIME: Final = Code("VERDICT-TIME", PRIVATE, "When the verdict was given")
HISTOPATHOLOGY: Final = Code("HISTOPATHOLOGY", PRIVATE, "Histopathology linked to this scan")
CALIBRATION: Final = Code("CALIBRATION", PRIVATE, "Colour calibration of the picture")
WARNING: Final = Code("WARNING", PRIVATE, "To know before reading the result")
BODY_SITE: Final = Code("BODY-SITE", PRIVATE, "Body site, in the clinic's words")
INTENDED_USE: Final = Code("INTENDED-USE", PRIVATE, "Intended use")
SOURCES: Final = {
    "clinician": Code("CLINICIAN", PRIVATE, "A clinician's assessment"),
    "histopathology": Code("HISTO", PRIVATE, "Histopathology"),
    "follow_up": Code("FOLLOW-UP", PRIVATE, "The lesion's course at follow-up"),
}
CALIBRATIONS: Final = {
    "valid": Code("CAL-VALID", PRIVATE, "Colours corrected with a valid profile"),
    "expired": Code("CAL-EXPIRED", PRIVATE, "Colours corrected with an expired profile"),
    "none": Code("CAL-NONE", PRIVATE, "Colours not calibrated"),
}


def class_code(name: str) -> Code:
    """The code of a class; of one that this version does not know, our own with its name."""
    return CLASSES.get(name) or Code(name.upper()[:16], PRIVATE, name.replace("_", " ")[:64])


def probability_code(name: str) -> Code:
    """The code of a class's probability."""
    return PROBABILITIES.get(name) or Code(f"P-{name.upper()}"[:16], PRIVATE, f"Class probability: {name}"[:64])


def source_code(name: str) -> Code:
    """The code of what a verdict rests on."""
    return SOURCES.get(name) or Code(name.upper()[:16], PRIVATE, name.replace("_", " ")[:64])
