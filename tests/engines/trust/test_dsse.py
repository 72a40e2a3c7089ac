"""The envelope: the specification's own example, and that nothing but an envelope is taken for one."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.trust.dsse import (
    MAX_SIGNATURES,
    Envelope,
    EnvelopeError,
    Signature,
    pre_authentication_encoding,
    read_envelope,
    write_envelope,
)

GOOD = Envelope("text/plain", b"hello \x00 world", (Signature("key", b"\xff\xfe" * 32), Signature("", b"2")))


def test_the_encoding_is_the_specifications() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, test vectors
    found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_of_bytes_so_that_parts_cannot_be_shifted() -> None:
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "
    assert pre_authentication_encoding("a", b"b c") != pre_authentication_encoding("a 1 b", b"c")


def test_an_envelope_comes_back_as_it_went() -> None:
    assert read_envelope(write_envelope(GOOD)) == GOOD


def test_url_safe_base64_and_unknown_keys_are_read() -> None:
    content = json.loads(write_envelope(GOOD)) | {"more": 1}
    content["signatures"][0]["sig"] = content["signatures"][0]["sig"].replace("/", "_").replace("+", "-")
    assert read_envelope(json.dumps(content).encode()) == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "'signatures' is missing"),
        (b'{"signatures": {}}', "'signatures' is missing or of the wrong kind"),
        (b'{"signatures": []}', "holds 0 signatures"),
        (json.dumps({"signatures": [{}] * (MAX_SIGNATURES + 1)}).encode(), "holds 9 signatures"),
        (b'{"signatures": [{"sig": "AA=="}]}', "'payloadType' is missing"),
        (b'{"signatures": [{"sig": "AA=="}], "payloadType": 1}', "'payloadType' is missing or of the wrong kind"),
        (b'{"signatures": [{"sig": "AA=="}], "payloadType": "a"}', "'payload' is missing"),
        (b'{"signatures": [{"sig": "AA=="}], "payloadType": "a", "payload": "?"}', "'payload' is not valid base64"),
        (b'{"signatures": [{"sig": "\xc3\xa9"}], "payloadType": "a", "payload": ""}', "'sig' is not valid base64"),
        (b'{"signatures": ["AA=="], "payloadType": "a", "payload": ""}', "'sig' is missing"),
    ],
)
def test_what_is_no_envelope_is_said_so(text: bytes, words: str) -> None:
    with pytest.raises(EnvelopeError, match=words):
        read_envelope(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={"signatures": JSON, "payloadType": JSON, "payload": JSON}))
def test_no_json_makes_it_fall_over(content: dict[str, object]) -> None:
    with contextlib.suppress(EnvelopeError):
        assert isinstance(read_envelope(json.dumps(content).encode()), Envelope)
