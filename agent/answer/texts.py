"""Every sentence a clinician reads in an answer, in one place, so that they can be reviewed together.

Intended use: an adjunct for trained clinicians (21 CFR 878.1820). So: never "benign", never "diagnosis" where a
suggestion is meant, and no sentence that could be read as leave to ignore a clinician's own suspicion.
"""

from __future__ import annotations

from typing import Final

ADJUNCT: Final = "Adjunct for trained clinicians; not a diagnosis."

REFER_URGENTLY: Final = (
    "Suspicious for melanoma: refer urgently for specialist assessment; consider excision for histopathology."
)
REFER: Final = (
    "Melanoma risk below the operating threshold, but the pattern suggests a keratinocyte carcinoma or a precursor: "
    "refer for specialist assessment (non-urgent). Clinical suspicion overrides this suggestion."
)
FOLLOW_SOON: Final = (
    "Melanoma risk near the operating threshold: seek a second opinion, or examine again at a short interval "
    "(about three months). Clinical suspicion overrides this suggestion."
)
ROUTINE: Final = (
    "Melanoma risk below the operating threshold: routine follow-up. Clinical suspicion overrides this suggestion."
)

NOT_CALIBRATED: Final = "Colours are not calibrated for this dermoscope."
PATIENTS_DIFFER: Final = (
    "The picture and its sidecar name different patients; the sidecar's is used. Check before you file this answer."
)
NEVER_ENDED: Final = "The file has no proper end; it was read once it stopped changing, and part of it may be missing."


def late(took_s: float, allowed_s: float) -> str:
    """An answer that took longer than promised."""
    return f"This answer took {took_s:.1f} s, longer than the {allowed_s:.1f} s allowed."


def other_shape(shape: tuple[int, int], made_for: tuple[int, int]) -> str:
    """A picture that the dermoscope's flat field does not fit; both are height and width in pixels."""
    return (
        f"This picture is {shape[1]} x {shape[0]} pixels, but the colour profile was made for the shape of "
        f"{made_for[1]} x {made_for[0]}: set the camera back to that format, or ask for a calibration with this one."
    )


CLASS_NAMES: Final = {
    "melanoma": "melanoma",
    "basal_cell_carcinoma": "basal cell carcinoma",
    "benign_keratosis": "seborrhoeic or lichenoid keratosis",
    "dermatofibroma": "dermatofibroma",
    "melanocytic_nevus": "melanocytic naevus",
    "vascular_lesion": "vascular lesion",
    "actinic_keratosis": "actinic keratosis",
}
"""How a class is written for people; the JSON keeps the product's own names."""
