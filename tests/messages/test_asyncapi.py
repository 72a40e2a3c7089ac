"""``asyncapi.yaml`` is what the code says, the official parser accepts it, and its examples are valid."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.messages.asyncapi import document, envelope_schema, json_schemas
from agent.messages.catalogue import BY_TYPE, MESSAGES, Direction, MessageType
from agent.messages.envelope import MAX_BYTES, parse
from agent.messages.examples import EXAMPLES

REPOSITORY = Path(__file__).resolve().parents[2]
COMMITTED = REPOSITORY / "asyncapi.yaml"
PARSER = Path(__file__).with_name("parser")

each_example = pytest.mark.parametrize(
    ("message", "event"),
    [
        pytest.param(message, example.event, id=f"{message.topic}: {example.name}")
        for message in MESSAGES
        for example in EXAMPLES[message]
    ],
)


def test_the_committed_document_is_made_of_the_code() -> None:
    yaml = pytest.importorskip("yaml")
    made = json.loads(json.dumps(document()))
    assert yaml.safe_load(COMMITTED.read_text()) == made, "run: python -m agent.messages.asyncapi > asyncapi.yaml"


@pytest.mark.timeout(120)
def test_the_official_parser_accepts_it() -> None:
    node = shutil.which("node")
    if node is None or not (PARSER / "node_modules").is_dir():
        pytest.skip("the AsyncAPI parser is not installed (make setup installs it where npm is)")
    command = [node, str(PARSER / "check.js"), str(COMMITTED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    verdict = json.loads(done.stdout)
    assert verdict["found"] == []
    assert len(verdict["operations"]) == len(MESSAGES)


def test_every_message_has_a_topic_of_the_contract_and_an_example() -> None:
    assert {message.topic for message in MESSAGES} == {
        "results",
        "feedback",
        "telemetry",
        "status",
        "ack",
        "ground-truth",
        "command",
    }
    assert set(EXAMPLES) == set(MESSAGES)
    assert all(EXAMPLES.values())
    assert len(BY_TYPE) == len(MESSAGES)
    down = {message.topic for message in MESSAGES if message.direction is Direction.DOWN}
    assert down == {"ack", "ground-truth", "command"}


@each_example
def test_the_examples_hold_against_the_json_schemas(message: MessageType, event: dict[str, object]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = envelope_schema(message) | {"components": {"schemas": json_schemas()}}
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    assert list(validator.iter_errors(event)) == []
    broken = json.loads(json.dumps(event))
    del broken["id"]
    assert list(validator.iter_errors(broken)), "the schema must be able to refuse"
    broken = json.loads(json.dumps(event))
    broken["data"] = {}
    assert list(validator.iter_errors(broken))


@each_example
def test_the_examples_are_read_as_they_are_sent(message: MessageType, event: dict[str, object]) -> None:
    payload = json.dumps(event).encode()
    assert len(payload) < MAX_BYTES
    read = parse(payload, [message])
    assert read.message is message
    assert json.loads(read.data.model_dump_json()) == event["data"]


@pytest.mark.fault("F30")
def test_no_message_has_room_for_a_patient() -> None:
    text = json.dumps(json_schemas()).lower()
    for word in ("patient_id", "birth", "note", "sidecar", "path"):
        assert f'"{word}"' not in text, word
