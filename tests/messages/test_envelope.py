"""What is no message of ours is refused with a sentence, whatever it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages.catalogue import ACK, COMMAND, GROUND_TRUTH, RESULT, topic_of
from agent.messages.down import Ack, Command
from agent.messages.envelope import MAX_BYTES, MalformedMessage, Sender, event_bytes, parse

SENDER = Sender("clinic-1", "device 1/ü", "9.9")
DOWN = (ACK, COMMAND, GROUND_TRUTH)


def ack(**changes: object) -> bytes:
    payload = event_bytes(
        SENDER,
        ACK,
        event_id="a1",
        subject="device-1",
        seq=None,
        time="2026-01-01T00:00:00Z",
        data=Ack(ids=("e1", "e2")),
    )
    return json.dumps({**json.loads(payload), **changes}).encode()


def test_an_acknowledgement_is_read() -> None:
    event = parse(ack(), DOWN)
    assert (event.id, event.message, event.subject, event.sequence) == ("a1", ACK, "device-1", None)
    assert isinstance(event.data, Ack)
    assert event.data.ids == ("e1", "e2")


def test_what_a_newer_cloud_adds_is_passed_over() -> None:
    event = parse(ack(data={"ids": ["e1"], "committed_at": "later"}, partitionkey="x"), DOWN)
    assert isinstance(event.data, Ack)


@pytest.mark.parametrize(
    ("payload", "words", "event_id"),
    [
        (b"", "no JSON", None),
        (b"\xff\xfe", "no JSON", None),
        (b"[" * 50_000, "no JSON", None),
        (b"[]", "not a JSON object", None),
        (b'{"id": ""}', "id is missing", None),
        (b'{"id": 7}', "id is missing", None),
        (ack(specversion="0.3"), "specversion is '0.3'", "a1"),
        (ack(type="org.dermascan.ack.v2"), "type is 'org.dermascan.ack.v2'", "a1"),
        (ack(type=["x"]), "type is", "a1"),
        (ack(type=RESULT.type), "type is 'org.dermascan.result.v1'", "a1"),
        (ack(data=None), "data", "a1"),
        (ack(data={"ids": "e1"}), "data.ids", "a1"),
        (ack(data={"ids": [""]}), "data.ids.0", "a1"),
        (ack(data={"ids": ["e"] * 10_001}), "data.ids", "a1"),
        (b" " * (MAX_BYTES + 1), "at most", None),
    ],
)
def test_malformed_messages_are_told_apart(payload: bytes, words: str, event_id: str | None) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(payload, DOWN)
    assert words in str(caught.value)
    assert caught.value.event_id == event_id
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=300) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "specversion", "type", "data", "ids"]) | st.text(), inner)).map(lambda value: json.dumps(value).encode()))  # fmt: skip  # noqa: E501
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    try:
        event = parse(payload, DOWN)
    except MalformedMessage:
        return
    assert event.message in DOWN


def test_the_bytes_are_the_same_each_time_and_ordered() -> None:
    first, second = (
        event_bytes(
            SENDER, COMMAND, event_id="c1", subject="d", seq=7, time="2026-01-01T00:00:00Z", data=Command(command=name)
        )
        for name in ("sync-now", "sync-now")
    )
    assert first == second
    content = json.loads(first)
    assert list(content) == sorted(content)
    assert content["sequence"] == "0000000000000007"
    assert content["source"] == "/dermascan/clinic-1/device%201%2F%C3%BC"
    with pytest.raises(ValueError, match="JSON"):
        event_bytes(SENDER, COMMAND, event_id="c", subject="d", seq=None, time="t", data={"x": float("nan")})


def test_topics_are_the_contracts() -> None:
    assert topic_of("clinic-1", "device-1", RESULT.topic) == "dermascan/v1/clinic-1/device-1/results"
