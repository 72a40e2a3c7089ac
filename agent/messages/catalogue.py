"""Every kind of message: its type, its topic, which way it goes, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from pydantic import BaseModel

from agent.messages.device import Alert, CommandReply, Status, Telemetry
from agent.messages.down import Ack, Command
from agent.messages.results import Result
from agent.messages.verdicts import Feedback, GroundTruth

ROOT: Final = "dermascan/v1"
Model: TypeAlias = type[BaseModel]


class Direction(str, Enum):
    """Seen from the device."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class MessageType:
    """One kind of message."""

    type: str
    """The CloudEvents ``type``; its last part is the version of ``model``."""
    topic: str
    """The topic's last part."""
    direction: Direction
    model: Model
    priority: int
    """Order of sending among what waits: the smallest first."""
    summary: str


RESULT: Final = MessageType(
    "org.dermascan.result.v1", "results", Direction.UP, Result, 1, "A scan's end: its answer, or why it was refused"
)
FEEDBACK: Final = MessageType(
    "org.dermascan.feedback.v1",
    "feedback",
    Direction.UP,
    Feedback,
    0,
    "A clinician's or a pathologist's verdict",
)
ALERT: Final = MessageType(
    "org.dermascan.alert.v1", "telemetry", Direction.UP, Alert, 2, "Something that a person should look after"
)
COMMAND_REPLY: Final = MessageType(
    "org.dermascan.command-reply.v1", "telemetry", Direction.UP, CommandReply, 2, "What became of a command"
)
TELEMETRY: Final = MessageType(
    "org.dermascan.telemetry.v1", "telemetry", Direction.UP, Telemetry, 3, "Figures of the device"
)
STATUS: Final = MessageType(
    "org.dermascan.status.v1", "status", Direction.UP, Status, 0, "Online, offline, or (as the Will) lost; retained"
)
ACK: Final = MessageType("org.dermascan.ack.v1", "ack", Direction.DOWN, Ack, 0, "Ids of events the cloud committed")
GROUND_TRUTH: Final = MessageType(
    "org.dermascan.ground-truth.v1", "ground-truth", Direction.DOWN, GroundTruth, 0, "Histopathology for a scan"
)
COMMAND: Final = MessageType(
    "org.dermascan.command.v1",
    "command",
    Direction.DOWN,
    Command,
    0,
    "A hint: sync, report, new model, calibrate",
)

MESSAGES: Final = (RESULT, FEEDBACK, ALERT, COMMAND_REPLY, TELEMETRY, STATUS, ACK, GROUND_TRUTH, COMMAND)
BY_TYPE: Final = {message.type: message for message in MESSAGES}


def topic_of(clinic_id: str, device_id: str, name: str) -> str:
    """The whole topic; ``name`` is a message's ``topic``."""
    return f"{ROOT}/{clinic_id}/{device_id}/{name}"
