"""What may be asked of the agent through the spool: each thing a small message that is checked before it is done."""

from __future__ import annotations

import uuid
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agent.messages.parts import DiagnosisClass, ScanId
from agent.messages.verdicts import VerdictSource
from agent.records.sealing import Seal

SEALED_ORDER: Final = "order"
"""The field by whose name an order's text is bound to its id."""


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    """Made once by who asks; a verdict's own id."""


class VerdictOrder(_Order):
    """Keep a verdict."""

    order: Literal["verdict"] = "verdict"
    scan_id: ScanId
    diagnosis: DiagnosisClass | None
    """None withdraws the verdict that stands."""
    source: VerdictSource
    by: Annotated[str, Field(max_length=200)] | None = None
    note: Annotated[str, Field(max_length=10_000)] | None = None
    given_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]


class RetryOrder(_Order):
    """Send an event again that was given up, or all of them."""

    order: Literal["retry"] = "retry"
    event_id: str | None


class AuditOrder(_Order):
    """Keep in the audit what a command did."""

    order: Literal["audit"] = "audit"
    action: Literal["token-created", "token-revoked", "export"]
    who: Annotated[str, Field(min_length=1, max_length=200)]
    subject: Annotated[str, Field(max_length=200)]
    detail: dict[str, str | int | bool | None]
    at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]


class RetentionOrder(_Order):
    """Give up now what is due."""

    order: Literal["retention"] = "retention"


class EraseOrder(_Order):
    """Forget a patient."""

    order: Literal["erase"] = "erase"
    patient_id: Annotated[str, Field(min_length=1, max_length=200)]
    who: Annotated[str, Field(min_length=1, max_length=200)]


AnyOrder: TypeAlias = VerdictOrder | RetryOrder | AuditOrder | RetentionOrder | EraseOrder
_READER: Final[TypeAdapter[AnyOrder]] = TypeAdapter(Annotated[AnyOrder, Field(discriminator="order")])


class _Closed(BaseModel):
    """An order that is sealed: it names patients, or holds what somebody wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    sealed: str


def written(order: AnyOrder, seal: Seal) -> bytes:
    """An order as a file: sealed, where there is a key."""
    text = order.model_dump_json()
    if seal.key_id is None:
        return text.encode()
    return _Closed(id=order.id, sealed=seal.seal(text, order.id, SEALED_ORDER)).model_dump_json().encode()


def read(content: bytes, seal: Seal) -> AnyOrder:
    """The reverse; raises ValueError with a sentence that holds none of the values."""
    try:
        if content.startswith(b'{"id":') and b'"sealed":"dse1:' in content:
            closed = _Closed.model_validate_json(content)
            text = seal.open(closed.sealed, closed.id, SEALED_ORDER)
            if text is None:
                raise ValueError("it is sealed with a key that the agent does not have, or was changed")
            content = text.encode()
        return _READER.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def new_id() -> str:
    """An order's id."""
    return str(uuid.uuid4())
