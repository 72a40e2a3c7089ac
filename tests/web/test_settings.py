"""``[api]`` and ``[export]``: each wrong value is a clear error before anything starts (F24)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import ConfigError, load_config

WriteConfig = Callable[..., Path]


def section(text: str) -> tuple[str, str]:
    return ("[store]", f"{text}\n\n[store]")


def test_without_the_sections_there_is_neither(write_config: WriteConfig) -> None:
    config = load_config(write_config())
    assert (config.api, config.export) == (None, None)


def test_an_empty_section_is_the_loopback_and_its_usual_port(write_config: WriteConfig) -> None:
    api = load_config(write_config(section("[api]"))).api
    assert api is not None
    assert (api.host, api.port, api.loopback, api.max_body_mb) == ("127.0.0.1", 8440, True, 32)


def test_tls_makes_any_address_good(write_config: WriteConfig, tmp_path: Path) -> None:
    text = '[api]\nhost = "0.0.0.0"\ncert = "c.pem"\nkey = "k.pem"\nallowed_hosts = ["derma.example", "10.0.0.5"]'
    api = load_config(write_config(section(text))).api
    assert api is not None
    assert (api.cert, api.loopback) == (tmp_path / "c.pem", False)


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('[api]\nhost = "0.0.0.0"', "api.cert", "0.0.0.0"),  # noqa: S104
        ('[api]\nhost = "192.168.1.4"', "api.cert", "192.168.1.4"),
        ('[api]\nhost = "clinic-pc"', "api.cert", "clinic-pc"),
        ('[api]\nhost = "::"', "api.cert", "::"),
        ('[api]\ncert = "c.pem"', "api.key", "is missing"),
        ('[api]\nhost = "0.0.0.0"\nkey = "k.pem"', "api.cert", "is missing"),
        ('[api]\nhost = "a b"', "api.host", "'a b'"),
        ("[api]\nport = 70000", "api.port", "70000"),
        ('[api]\nport = "8440"', "api.port", "'8440'"),
        ("[api]\nmax_body_mb = 0", "api.max_body_mb", "0"),
        ('[api]\nallowed_hosts = ["http://x"]', "api.allowed_hosts.0", "http://x"),
        ("[api]\nrequests_per_s = 0", "api.requests_per_s", "0"),
        ("[api]\ntoken = 1", "api.token", "no such key"),
        ("[export]", "export.folder", "missing"),
        ('[export]\nfolder = "out"\nformats = ["pdf"]', "export.formats.0", "'pdf'"),
        ('[export]\nfolder = "out"\nformats = []', "export.formats", "[]"),
        ('[export]\nfolder = "scope-1/out"', "export.folder", "scope-1"),
        ('[export]\nfolder = "state"', "export.folder", "state"),
    ],
)
def test_each_wrong_value_names_file_key_and_value(write_config: WriteConfig, text: str, key: str, value: str) -> None:
    path = write_config(section(text))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    line = next(line for line in str(caught.value).splitlines() if f" {key}" in line)
    assert line.startswith(f"{path}: ")
    assert value in line


@pytest.mark.fault("F24")
def test_a_host_that_is_none_is_not_told_of_letters_and_digits(write_config: WriteConfig) -> None:
    with pytest.raises(ConfigError, match="a name or an address"):
        load_config(write_config(section('[api]\nhost = "a b"')))
