"""The seven classes of the product, in the one order that every part of it uses."""

from typing import Final

MELANOMA: Final = "melanoma"
CLASSES: Final = (
    MELANOMA,
    "basal_cell_carcinoma",
    "benign_keratosis",
    "dermatofibroma",
    "melanocytic_nevus",
    "vascular_lesion",
    "actinic_keratosis",
)
