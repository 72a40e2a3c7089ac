"""``POST /api/v1/analyze``: a picture in, its explained answer out; several pictures of a visit in one request."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from agent.answer.scan import Answer
from agent.messages.parts import Identifier
from agent.web.body import SMALL_BYTES, invalid, media_type, parse, read
from agent.web.carrier import About, Carrier, Sent
from agent.web.context import Context, Here, reply
from agent.web.gate import Analyzes
from agent.web.models import Result, Results
from agent.web.problems import (
    FULL,
    INVALID,
    MALFORMED,
    MEDIA,
    NO_ENGINE,
    NOT_A_PICTURE,
    OTHER_PATIENT,
    REFUSED_PICTURE,
    SIGNED_IN,
    Problem,
    described,
)

router = APIRouter(prefix="/api/v1", tags=["analyze"])

MOST_PICTURES: Final = 16
PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$"
"""Something that can be read, and no control characters."""
READ_AT_ONCE: Final = 1 << 20
"""Bodies of so many bytes are read where they came, in 2 ms at most: a thread's turn and the way back take longer."""
AT_ONCE: Final = 2
"""Pictures of one request that are on their way at once."""

Base64 = Annotated[
    str, Field(min_length=1, description="base64 of a PNG or a JPEG", json_schema_extra={"contentEncoding": "base64"})
]
Text = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]


class OneOfSeveral(BaseModel):
    """A picture of a visit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Base64
    body_site: Text | None = None


class AnalyzeBody(BaseModel):
    """A picture, or several of one visit, and whose they are. Give either ``image`` or ``images``."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["images"]}]}
    )

    image: Base64 | None = None
    images: Annotated[list[OneOfSeveral], Field(min_length=1, max_length=MOST_PICTURES)] | None = None
    clinic_id: Identifier
    patient_id: Text
    dermoscope_id: Identifier = "api"
    """Whose colour profile is used."""
    body_site: Text | None = None
    age: Annotated[int, Field(ge=0, le=120)] | None = None
    sex: Annotated[str, Field(pattern="^(female|male|other|unknown)$")] | None = None
    skin_type: Annotated[str, Field(pattern="^(I|II|III|IV|V|VI)$")] | None = None

    @model_validator(mode="after")
    def _one_or_several(self) -> AnalyzeBody:
        if (self.image is None) == (self.images is None):
            raise ValueError("give either image or images")
        return self


_FORM: Final = {
    "type": "object",
    "required": ["image", "clinic_id", "patient_id"],
    "properties": {
        "image": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": MOST_PICTURES,
        },
        **{name: {"type": "string"} for name in ("clinic_id", "patient_id", "dermoscope_id", "body_site")},
        **{name: {"type": "string"} for name in ("age", "sex", "skin_type")},
    },
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/AnalyzeBody"}},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


@router.post(
    "/analyze",
    response_model=Answer | Results,
    responses=described(*SIGNED_IN, INVALID, MEDIA, NOT_A_PICTURE, OTHER_PATIENT, REFUSED_PICTURE, NO_ENGINE, FULL),
    openapi_extra=_BODY,
)
async def analyze(request: Request, here: Here, visitor: Analyzes) -> Response:  # noqa: ARG001 - a right
    """Analyse a picture and answer with what the model suggests; with ``images``, with a result for each.

    The picture is kept and becomes a scan like any other. The same picture again gives the answer it had.
    """
    pictures, about, several = await _read(request, here)
    if about.clinic_id != here.agent.config.device.clinic_id:
        raise Problem(INVALID, "clinic_id: this device belongs to another clinic. Check whose picture this is.")
    carrier = here.carrier
    if not several:
        told = await carrier.carry(pictures[0][0], about.of(pictures[0][1]))
        return Response(told.answer_json, media_type="application/json")
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(sent: Sent | Problem, site: str | None) -> Result:
        async with at_once:
            return await _result(carrier, sent, about.of(site))

    results = await asyncio.gather(*(one(*picture) for picture in pictures))
    return reply(Results(results=list(results)))


async def _result(carrier: Carrier, sent: Sent | Problem, about: About) -> Result:
    try:
        told = await carrier.carry(sent, about)
    except Problem as problem:
        return Result(problem=problem.document())
    return Result(answer=Answer.model_validate_json(told.answer_json), problem=None)


_Picture = tuple["Sent | Problem", "str | None"]


async def _read(request: Request, here: Context) -> tuple[list[_Picture], About, bool]:
    """The pictures with their sites, whose they are, and whether an answer for each was asked for."""
    kind = media_type(request)
    most = here.agent.config.api.max_body_mb << 20 if here.agent.config.api else SMALL_BYTES
    if kind == "application/json":
        body = await read(request, most)
        return _from_json(body) if len(body) <= READ_AT_ONCE else await here.run(_from_json, body)
    if kind == "multipart/form-data":
        return await _from_form(request, here, most)
    raise Problem(MEDIA, "Send application/json with the picture in base64, or multipart/form-data.")


def _from_json(content: bytes) -> tuple[list[_Picture], About, bool]:
    body = parse(content, AnalyzeBody)
    del content
    about = About(**body.model_dump(include=set(About.__dataclass_fields__)))
    if body.image is not None:
        return [(_decoded(body.image), body.body_site)], about, False
    return [(_decoded(one.image), one.body_site or body.body_site) for one in body.images or ()], about, True


def _decoded(text: str) -> Sent | Problem:
    try:
        encoded = text.encode("ascii")
        if b"\n" in encoded:  # as encoders for mail write it
            encoded = encoded.replace(b"\r", b"").replace(b"\n", b"")
        return Sent.of(base64.b64decode(encoded, validate=True))
    except (UnicodeEncodeError, binascii.Error):
        return Problem(MALFORMED, "image: is no valid base64. Encode the picture's bytes, without a data: prefix.")


_AGE: Final = TypeAdapter(Annotated[int, Field(ge=0, le=120)])


async def _from_form(request: Request, here: Context, most: int) -> tuple[list[_Picture], About, bool]:
    contents: list[bytes] = []
    fields: dict[str, Any] = {}
    try:
        async with request.form(max_files=MOST_PICTURES, max_fields=16, max_part_size=most) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile) and name == "image":
                    contents.append(await value.read())
                elif name in fields or isinstance(value, UploadFile):
                    raise Problem(INVALID, "Each field is given once, and the pictures as parts named image.")
                else:
                    fields[name] = value
    except (MultiPartException, HTTPException):
        detail = f"The form cannot be read: send up to {MOST_PICTURES} image parts, with the fields beside them."
        raise Problem(MALFORMED, detail) from None
    if "age" in fields:
        fields["age"] = _age(fields["age"])
    return await here.run(_from_fields, contents, fields)


def _age(text: str) -> int:
    try:
        return _AGE.validate_python(text)
    except ValidationError:
        raise Problem(INVALID, "age: give whole years, 0 to 120.") from None


def _from_fields(contents: list[bytes], fields: dict[str, Any]) -> tuple[list[_Picture], About, bool]:
    if not contents:
        raise Problem(INVALID, "image: is missing; send the picture's bytes as a file part of this name.")
    try:
        body = AnalyzeBody.model_validate({**fields, "image": "-"})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False, include_context=False)) from None
    about = About(**body.model_dump(include=set(About.__dataclass_fields__)))
    return [(Sent.of(content), body.body_site) for content in contents], about, len(contents) > 1
