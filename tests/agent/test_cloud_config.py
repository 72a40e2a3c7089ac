"""``[cloud]`` and ``[privacy]``: each wrong value is a clear error, and the rung needs both (F24)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import ConfigError, load_config
from agent.fallback import cloud_settings, pseudonyms

WriteConfig = Callable[..., Path]
URL = 'url = "https://inference.example:8443/"'
CLOUD = ("[store]", f'[cloud]\n{URL}\nca = "ca.pem"\ncert = "d.pem"\nkey = "/d.key"\n\n[store]')
PRIVACY = ("[store]", '[privacy]\npseudonym_key_file = "key"\n\n[store]')
LADDER = ('ladder = ["cpu"]', 'ladder = ["tensorrt", "cloud", "cpu"]')


def test_what_the_rung_gets_to_know(write_config: WriteConfig, tmp_path: Path) -> None:
    settings = cloud_settings(load_config(write_config(CLOUD, PRIVACY, LADDER)))
    assert settings is not None
    assert (settings.url, settings.clinic_id) == ("https://inference.example:8443", "clinic-1")
    assert (settings.ca, settings.cert, settings.key) == (str(tmp_path / "ca.pem"), str(tmp_path / "d.pem"), "/d.key")
    assert settings.token_file is None


def test_without_sections_there_is_neither(write_config: WriteConfig) -> None:
    config = load_config(write_config())
    assert cloud_settings(config) is None
    assert pseudonyms(config) is None


def test_the_key_is_read_only_where_a_rung_needs_it(write_config: WriteConfig) -> None:
    assert pseudonyms(load_config(write_config(CLOUD, PRIVACY))) is None
    with pytest.raises(ConfigError, match="there is no such file"):
        pseudonyms(load_config(write_config(CLOUD, PRIVACY, LADDER)))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80/"])
def test_this_very_machine_may_be_asked_without_tls_and_without_a_name(write_config: WriteConfig, url: str) -> None:
    config = load_config(write_config(("[store]", f'[cloud]\nurl = "{url}"\n\n[store]')))
    assert config.cloud is not None


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    "url",
    [
        "inference.example",
        "ftp://inference.example",
        "https://",
        "https://inference.example/api",
        "https://inference.example?x=1",
        "https://me:secret@inference.example",
        "https://inference.example:99999",
        "https://infer ence.example",
        "https://[::1",
        "http://inference.example",
        "http://127.0.0.1.example",
    ],
)
def test_a_wrong_address_is_named(write_config: WriteConfig, url: str) -> None:
    with pytest.raises(ConfigError, match=r"cloud\.url = .*: not usable; allowed is https://"):
        load_config(write_config(CLOUD, (URL, f'url = "{url}"')))


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([LADDER, PRIVACY], 'inference.ladder: names "cloud"; add a .cloud. section'),
        ([LADDER, CLOUD], "privacy.pseudonym_key_file: is missing"),
        ([CLOUD, ('cert = "d.pem"\n', "")], "cloud.cert: is missing; cloud.key needs it"),
        ([CLOUD, ('key = "/d.key"\n', "")], "cloud.key: is missing; cloud.cert needs it"),
        ([CLOUD, ('cert = "d.pem"\nkey = "/d.key"\n', "")], "cloud.cert: is missing; give cert and key, or token_file"),
        ([CLOUD, (f"{URL}\n", "")], "cloud.url: is missing"),
        ([CLOUD, ("ca = ", "cacert = ")], "cloud.cacert: this version knows no such key"),
    ],
)
def test_what_is_missing_is_named(write_config: WriteConfig, changes: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(write_config(*changes))
