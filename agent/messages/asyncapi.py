"""Writes ``asyncapi.yaml`` (AsyncAPI 3) from the message definitions.

``python -m agent.messages.asyncapi > asyncapi.yaml``. The document describes the device: it sends what goes up and
receives what comes down.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from agent import __version__
from agent.messages.catalogue import MESSAGES, ROOT, STATUS, Direction, MessageType
from agent.messages.envelope import MAX_BYTES
from agent.messages.examples import EXAMPLES

_SCHEMAS: Final = "#/components/schemas/{model}"
_CONTENT_TYPE: Final = "application/cloudevents+json"
WHAT: Final = """\
What DermaScan Edge devices and the cloud say to each other over MQTT 5 (3.1.1 where a broker has no 5). Every payload
is a CloudEvents 1.0 event in structured JSON. Delivery is at least once: an event's `id` is its idempotency key, and a
row stays on the device until its id came back on `ack`. No patient data travel. docs/cloud.md explains ordering, gaps
and duplicates."""


def json_schemas() -> dict[str, Any]:
    """Every data model and what it is made of, as JSON Schemas by name, referring to each other."""
    models: list[tuple[Any, Any]] = [(message.model, "validation") for message in MESSAGES]
    _, definitions = models_json_schema(models, ref_template=_SCHEMAS)
    schemas: dict[str, Any] = _plain(definitions["$defs"])
    return schemas


def envelope_schema(message: MessageType) -> dict[str, Any]:
    """The JSON Schema of a whole event."""
    text = {"type": "string"}
    required = ["specversion", "id", "source", "type", "time", "datacontenttype", "data"]
    return {
        "type": "object",
        "title": message.summary,
        "required": required + (["sequence"] if _numbered(message) else []),
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text | {"minLength": 1, "maxLength": 128, "description": "The idempotency key."},
            "source": text | {"format": "uri-reference"},
            "type": {"const": message.type},
            "subject": text | {"description": "What it is about: a scan's id, a dermoscope's, the device's."},
            "time": text | {"format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "sequence": text | {"pattern": "^[0-9]{16}$", "description": "Its number in its topic, padded."},
            "data": {"$ref": _SCHEMAS.format(model=message.model.__name__)},
        },
    }


def _numbered(message: MessageType) -> bool:
    """Whether its events carry a number: all that go up but the status, which the broker may send for us."""
    return message.direction is Direction.UP and message is not STATUS


def document() -> dict[str, Any]:
    """The whole document, as plain values."""
    schemas = json_schemas() | {f"{_name(message)}Event": envelope_schema(message) for message in MESSAGES}
    topics = list(dict.fromkeys(message.topic for message in MESSAGES))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "DermaScan Edge messages",
            "version": __version__,
            "description": WHAT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _CONTENT_TYPE,
        "servers": {"broker": _server()},
        "channels": {topic: _channel(topic) for topic in topics},
        "operations": {_operation_name(message): _operation(message) for message in MESSAGES},
        "components": {
            "messages": {_name(message): _message(message) for message in MESSAGES},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "broker.example:8883",
        "protocol": "secure-mqtt",
        "protocolVersion": "5.0",
        "description": "The clinic's or the cloud's broker; TLS 1.2 or newer, the device named by its certificate.",
        "bindings": {"mqtt": {"clientId": "{deviceId}", "cleanSession": False, "keepAlive": 30}},
    }


def _channel(topic: str) -> dict[str, Any]:
    return {
        "address": f"{ROOT}/{{clinicId}}/{{deviceId}}/{topic}",
        "parameters": {
            "clinicId": {"description": "[device] clinic_id of agent.toml"},
            "deviceId": {"description": "[device] id of agent.toml, and the CN of the device's certificate"},
        },
        "messages": {
            _name(message): {"$ref": f"#/components/messages/{_name(message)}"}
            for message in MESSAGES
            if message.topic == topic
        },
    }


def _operation(message: MessageType) -> dict[str, Any]:
    return {
        "action": "send" if message.direction is Direction.UP else "receive",
        "channel": {"$ref": f"#/channels/{message.topic}"},
        "summary": message.summary,
        "messages": [{"$ref": f"#/channels/{message.topic}/messages/{_name(message)}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": message is STATUS}},
    }


def _message(message: MessageType) -> dict[str, Any]:
    return {
        "name": message.type,
        "title": message.summary,
        "contentType": _CONTENT_TYPE,
        "payload": {"$ref": _SCHEMAS.format(model=f"{_name(message)}Event")},
        "examples": [{"name": example.name, "payload": example.event} for example in EXAMPLES[message]],
        "x-max-bytes": MAX_BYTES,
    }


def _name(message: MessageType) -> str:
    """``org.dermascan.ground-truth.v1`` as ``GroundTruth``."""
    return "".join(part.capitalize() for part in message.type.split(".")[-2].split("-"))


def _operation_name(message: MessageType) -> str:
    return ("send" if message.direction is Direction.UP else "receive") + _name(message)


def _plain(schema: Any) -> Any:
    """A JSON Schema of 2020-12 as draft-07, which AsyncAPI has by default: the discriminator is OpenAPI's own."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "discriminator"}
    if isinstance(schema, list):
        return [_plain(value) for value in schema]
    return schema


def main() -> None:
    """Write the document to standard output."""
    import yaml  # type: ignore[import-untyped]  # a developers' tool only

    print("# Made by: python -m agent.messages.asyncapi > asyncapi.yaml")
    yaml.safe_dump(document(), sys.stdout, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    main()
