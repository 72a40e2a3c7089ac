"""What the cloud may answer: its form checked strictly, and the numbers taken from it (F26).

No sentence of this module holds anything of what was received.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Annotated, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engines.backend import BackendFailed, Output
from engines.classes import CLASSES, MELANOMA
from engines.golden import GRID, SUM_TOLERANCE

MAX_ANSWER_BYTES: Final = 1 << 20
_MAX_HEATMAP_SIDE: Final = 1024

_Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class CloudFailed(BackendFailed):
    """The cloud gave no answer that may be used. One sentence, with nothing in it of what was sent or received."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Diagnosis(_Part):
    primary: str
    confidence: _Share
    melanoma_risk: _Share
    all_classes: dict[str, _Share]

    @field_validator("all_classes")
    @classmethod
    def _these_classes(cls, value: dict[str, float]) -> dict[str, float]:
        if set(value) != set(CLASSES):
            raise ValueError("other classes than this model's")
        if abs(sum(value.values()) - 1.0) > SUM_TOLERANCE:
            raise ValueError("probabilities that do not sum to 1")
        return value


class _Answer(_Part):
    """The required core of the design's answer; whatever stands beside it is left alone."""

    diagnosis: _Diagnosis
    attention_map: Annotated[str, Field(max_length=MAX_ANSWER_BYTES)]
    recommendation: str
    model_version: str
    latency_ms: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def read_answer(body: bytes, label: str) -> Output:
    """Check an answer and take from it what a backend gives.

    Args:
        body: JSON as the design describes it.
        label: the bundle's ``name/version``, which must be the model that answered.

    Returns:
        ``probabilities`` ``[1, 7]``; ``attention`` ``[1, 14, 14]``, the heatmap's means, which sum to 1.

    Raises:
        CloudFailed: it is not such an answer, contradicts itself, or is another model's.
    """
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as error:
        raise CloudFailed(f"the cloud's answer is not in the agreed form: {_fault(error)}") from None
    if answer.model_version != label:
        raise CloudFailed(f"the cloud runs another model than {label}: have its side take the same bundle into use")
    said = answer.diagnosis
    shares = said.all_classes
    if (
        said.primary not in shares
        or max(shares.values()) - shares[said.primary] > SUM_TOLERANCE
        or abs(shares[said.primary] - said.confidence) > SUM_TOLERANCE
        or abs(shares[MELANOMA] - said.melanoma_risk) > SUM_TOLERANCE
    ):
        raise CloudFailed("the cloud's answer contradicts its own probabilities")
    probabilities = np.array([[shares[name] for name in CLASSES]], dtype=np.float32)
    return Output(probabilities, read_heatmap(answer.attention_map)[None])


def _fault(error: ValidationError) -> str:
    """Which part is wrong and why, without what was there in its place; names are the schema's own."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    known = {*_Answer.model_fields, *_Diagnosis.model_fields, *CLASSES}
    place = ".".join(str(part) for part in first["loc"] if part in known)
    if first["type"] == "json_invalid":
        return "it is not JSON"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}" if place else first["msg"]


def read_heatmap(text: str) -> NDArray[np.float32]:
    """The heatmap's intensities, ``[14, 14]`` float32 summing to 1 (or all 0), by means over areas.

    A palette PNG's indices are intensities, as a grey one's levels are (see ``agent.answer.heatmap``).
    """
    try:
        data = base64.b64decode(text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                width, height = picture.size
                if (
                    picture.mode not in ("P", "L")
                    or not min(width, height) >= GRID
                    or max(width, height) > _MAX_HEATMAP_SIDE
                ):
                    raise CloudFailed("the cloud's heatmap is no grey or palette picture of a usable size")
                levels = np.asarray(picture, dtype=np.float32)
    except (binascii.Error, ValueError, OSError, SyntaxError, MemoryError) as error:
        raise CloudFailed("the cloud's heatmap is no PNG") from error
    means = np.asarray(cv2.resize(levels, (GRID, GRID), interpolation=cv2.INTER_AREA), dtype=np.float32)
    total = float(means.sum())
    return means / np.float32(total) if total > 0 else np.zeros((GRID, GRID), dtype=np.float32)
