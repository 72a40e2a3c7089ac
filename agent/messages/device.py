"""What a device says of itself: alive or lost, figures, alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from agent.messages.parts import Data, Identifier, Sentence


class Status(Data):
    """Retained; ``lost`` is the Will, published by the broker where the connection broke without a goodbye."""

    state: Literal["online", "offline", "lost"]
    software_version: str
    since: datetime | None = None
    """When this connection was made, on the device's clock; None in the Will's and older words."""


class Alert(Data):
    """Something that a person should look after."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    sentence: Sentence
    dermoscope_id: Identifier | None = None
    profile_id: str | None = None
    light: float | None = None
    light_limit: float | None = None
    skin: float | None = None
    skin_limit: float | None = None
    """Of ``colour_drift``: shifts and their limits, CIEDE2000."""


class Telemetry(Data):
    """Figures of the device; each name is a metric's, without a patient in it."""

    report: Literal["periodic", "asked"]
    figures: dict[str, float]
    texts: dict[str, str] = Field(default_factory=dict)


class CommandReply(Data):
    """What became of a command, or why what came was none."""

    command_id: str | None
    """The id of the event that asked; None where it could not be read."""
    command: str | None
    outcome: Literal["done", "recorded", "refused", "malformed"]
    sentence: Sentence
    details: dict[str, JsonValue] = Field(default_factory=dict)
