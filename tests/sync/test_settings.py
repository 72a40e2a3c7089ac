"""The section ``[mqtt]``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import ConfigError, load_config

WriteConfig = Callable[..., Path]


def _with(write_config: WriteConfig, section: str) -> Path:
    return write_config(("[store]", f"[mqtt]\n{section}\n\n[store]"))


def test_without_the_section_there_is_no_sync(write_config: WriteConfig) -> None:
    assert load_config(write_config()).mqtt is None


def test_paths_are_relative_to_the_file(write_config: WriteConfig) -> None:
    path = _with(
        write_config, 'host = "broker.example"\nca = "ca.pem"\ncert = "tls/device.pem"\nkey = "tls/device.key"'
    )
    mqtt = load_config(path).mqtt
    assert mqtt is not None
    assert mqtt.ca == path.parent / "ca.pem"
    assert mqtt.cert == path.parent / "tls" / "device.pem"
    assert (mqtt.port, mqtt.delivery, mqtt.allow_insecure) == (8883, "cloud-ack", False)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_plain_to_this_machine(write_config: WriteConfig, host: str) -> None:
    assert load_config(_with(write_config, f'host = "{host}"\nport = 1883')).mqtt is not None


@pytest.mark.parametrize("host", ["broker.example", "10.0.0.1", "localhost.example", "0.0.0.0", "::"])  # noqa: S104
def test_plain_to_elsewhere_only_where_it_is_said_in_so_many_words(write_config: WriteConfig, host: str) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.ca: is missing.*allow_insecure = true"):
        load_config(_with(write_config, f'host = "{host}"'))
    assert load_config(_with(write_config, f'host = "{host}"\nallow_insecure = true')).mqtt is not None


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ('host = "localhost"\nca = "ca"\ncert = "c"', r"mqtt\.key: is missing"),
        ('host = "localhost"\nca = "ca"\nkey = "k"', r"mqtt\.cert: is missing"),
        ('host = "localhost"\ncert = "c"\nkey = "k"', r"mqtt\.ca: is missing"),
        ('host = "localhost"\npassword_file = "p"', r"mqtt\.username: is missing"),
        ('host = "localhost"\npassword = "p"', r"mqtt\.password: this version knows no such key"),
        ('host = "localhost"\ndelivery = "maybe"', r"mqtt\.delivery = 'maybe'"),
        ('host = "localhost"\nport = 0', r"mqtt\.port = 0"),
        ('host = "mqtt://localhost"', r"mqtt\.host = "),
        ("port = 1883", r"mqtt\.host: is missing"),
    ],
)
def test_what_is_wrong_is_said(write_config: WriteConfig, section: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(_with(write_config, section))


def test_the_example_holds(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "agent.example.toml"
    head, rest = example.read_text(encoding="utf-8").split("# [mqtt]\n")
    section = rest.split("\n# [")[0].splitlines()
    keys = [line[2:] for line in section if line.startswith("# ") and " = " in line.split("(")[0][:24]]
    path = tmp_path / "agent.toml"
    path.write_text("\n".join([head, "[mqtt]", *keys, ""]), encoding="utf-8")
    loaded = load_config(path).mqtt
    assert loaded is not None
    assert loaded.host == "broker.example"
    assert len(keys) == len(type(loaded).model_fields)
