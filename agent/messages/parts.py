"""What the messages' data models share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
EventId = Annotated[str, Field(min_length=1, max_length=128)]
ScanId = Annotated[str, Field(min_length=1, max_length=64)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Sentence = Annotated[str, Field(max_length=2000)]
DiagnosisClass = Literal[
    "melanoma",
    "basal_cell_carcinoma",
    "benign_keratosis",
    "dermatofibroma",
    "melanocytic_nevus",
    "vascular_lesion",
    "actinic_keratosis",
]


class Data(BaseModel):
    """The data of an event that we send: nothing in it that its schema does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HeardData(BaseModel):
    """The data of an event that we receive: what a newer cloud adds is not our affair."""

    model_config = ConfigDict(frozen=True, extra="ignore")
