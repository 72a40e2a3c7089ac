"""What every room's tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images; tests that need them are skipped, with a plain word, where they are absent."""
    folder = Path(os.environ.get("DERMASCAN_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ham10000" / "labels.csv").exists():
        pytest.skip(f"the real test images are not at {folder}; set DERMASCAN_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The newest demo bundle of this checkout."""
    folders = [path.parent for path in (REPOSITORY / "engines" / "models" / "demo").glob("*/manifest.json")]
    assert folders, "engines/models/demo holds no bundle"
    return max(folders, key=lambda folder: tuple(int(part) for part in folder.name.split(".")))


@pytest.fixture
def write_config(tmp_path: Path, demo_bundle: Path) -> Callable[..., Path]:
    """Write a working ``agent.toml`` into the test's folder, with text replaced: ``write_config((old, new))``."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = f"""
[device]
id = "device-1"
clinic_id = "clinic-1"
state_dir = "state"

[[dermoscope]]
id = "scope-1"
folder = "scope-1"

[inference]
bundle = "{demo_bundle}"
ladder = ["cpu"]
deadline_s = 3.0

[store]
quota_mb = 1024
"""
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the configuration"
            text = text.replace(old, new)
        (tmp_path / "scope-1").mkdir(exist_ok=True)
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return path

    return write
