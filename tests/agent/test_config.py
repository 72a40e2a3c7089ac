"""Every wrong value of the configuration is a clear error; the example file is a working one (F24)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import Config, ConfigError, load_config
from agent.exits import EXIT_CONFIG
from engines.trust.verifying import Trust

EXAMPLE = Path(__file__).resolve().parents[2] / "agent.example.toml"
WriteConfig = Callable[..., Path]


def test_the_example_is_valid_and_names_every_key() -> None:
    config = load_config(EXAMPLE)
    assert config.device.state_dir == Path("/var/lib/dermascan")
    text = EXAMPLE.read_text()
    for section in Config.model_fields.values():
        model = section.annotation
        for model_class in (*getattr(model, "__args__", ()), model):
            for key in getattr(model_class, "model_fields", {}):
                # "models" stands there as a comment: it excludes "bundle".
                assert f"\n{key} = " in text or f"\n# {key} = " in text, f"agent.example.toml does not explain {key}"


def test_paths_are_relative_to_the_file(write_config: WriteConfig, tmp_path: Path) -> None:
    config = load_config(write_config())
    assert config.device.state_dir == tmp_path / "state"
    assert config.dermoscopes[0].folder == tmp_path / "scope-1"


def test_models_may_stand_in_for_bundle_and_trust_is_asked_for_unless_said_otherwise(
    write_config: WriteConfig, tmp_path: Path, demo_bundle: Path
) -> None:
    inference = load_config(write_config((f'bundle = "{demo_bundle}"', 'models = "m"'))).inference
    assert (inference.bundle, inference.models) == (None, tmp_path / "m")
    assert inference.trust == Trust(tmp_path / "trust", require_trusted=False)
    text = ("require_trusted = false", 'trust_dir = "/keys"')
    assert load_config(write_config(text)).inference.trust == Trust(Path("/keys"), require_trusted=True)


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("old", "new", "key", "value"),
    [
        ('id = "device-1"', 'id = "device/1"', "device.id", "'device/1'"),
        ('id = "device-1"', "id = 7", "device.id", "7"),
        ('id = "device-1"\n', "", "device.id", "missing"),
        ('clinic_id = "clinic-1"', 'clinic_id = ""', "device.clinic_id", "''"),
        ('state_dir = "state"', "state_dir = 5", "device.state_dir", "5"),
        ('state_dir = "state"', 'state_dir = "scope-1/state"', "device.state_dir", "scope-1/state"),
        ('id = "scope-1"', 'id = "a b"', "dermoscope.0.id", "'a b'"),
        ('folder = "scope-1"', "folder = false", "dermoscope.0.folder", "False"),
        ('folder = "scope-1"\n', "", "dermoscope.0.folder", "missing"),
        ('[[dermoscope]]\nid = "scope-1"\nfolder = "scope-1"\n', "", "dermoscope", "missing"),
        ("require_trusted = false", 'require_trusted = "no"', "inference.require_trusted", "'no'"),
        ("require_trusted = false", "trust_dir = 1", "inference.trust_dir", "1"),
        ("require_trusted = false", 'models = "models"', "inference.models", "beside inference.bundle"),
        ('bundle = "', '# bundle = "', "inference.bundle:", "is missing"),
        ('ladder = ["cpu"]', 'ladder = ["gpu"]', "inference.ladder.0", "'gpu'"),
        ('ladder = ["cpu"]', "ladder = []", "inference.ladder", "[]"),
        ('ladder = ["cpu"]', 'ladder = "cpu"', "inference.ladder", "'cpu'"),
        ("deadline_s = 3.0", "deadline_s = 0.1", "inference.deadline_s", "0.1"),
        ("deadline_s = 3.0", 'deadline_s = "3"', "inference.deadline_s", "'3'"),
        ("deadline_s = 3.0", "deadlines = 3.0", "inference.deadlines", "no such key"),
        ("quota_mb = 1024", "quota_mb = 1", "store.quota_mb", "1"),
        ("quota_mb = 1024", "quota_mb = 1.5", "store.quota_mb", "1.5"),
        ("[store]", "[shop]", "shop", "no such key"),
        ("quota_mb = 1024", "[weather]\nrain = 1", "weather", "no such key"),
        (
            "[inference]",
            '[[dermoscope]]\nid = "scope-1"\nfolder = "other"\n\n[inference]',
            "dermoscope.1.id",
            "dermoscope.0.id",
        ),
    ],
)
def test_each_wrong_value_names_file_key_and_value(
    write_config: WriteConfig, old: str, new: str, key: str, value: str
) -> None:
    path = write_config((old, new))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    line = next(line for line in str(caught.value).splitlines() if f" {key}" in line)
    assert line.startswith(f"{path}: ")
    assert value in line


@pytest.mark.fault("F24")
@pytest.mark.parametrize("content", [b"[device\n", b"\xff\xfe", None])
def test_a_file_that_is_none_is_said_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "agent.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"agent\.toml: "):
        load_config(path)


@pytest.mark.fault("F24")
def test_the_command_ends_with_78(write_config: WriteConfig) -> None:
    path = write_config(("deadline_s = 3.0", "deadline_s = -1.0"))
    command = [sys.executable, "-m", "agent.cli", "run", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == EXIT_CONFIG
    assert "inference.deadline_s = -1.0" in done.stderr
    assert "Traceback" not in done.stderr
