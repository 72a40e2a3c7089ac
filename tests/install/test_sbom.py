"""The bill of materials names what is delivered: each wheel once, by its hash."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.install.pretended import REPOSITORY, pack


def bill_of(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts/sbom.py"), str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pack(tmp_path / "release", "1.0")


def test_every_wheel_is_named_by_its_hash(folder: Path) -> None:
    bill = bill_of(folder)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    named = {one["hashes"][0]["content"] for one in [bill["metadata"]["component"], *bill["components"]]}
    for wheel in (folder / "wheels").glob("*.whl"):
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() in named
    assert bill["metadata"]["component"]["name"] == "dermascan-edge"
    (pip,) = (one for one in bill["components"] if one["name"] == "pip")
    assert pip["purl"].startswith("pkg:pypi/pip@")
    assert pip["licenses"]


def test_references_hold(folder: Path) -> None:
    bill = bill_of(folder)
    refs = [bill["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bill["components"])]
    assert len(refs) == len(set(refs))
    for entry in bill["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= set(refs)


def test_the_same_release_gives_the_same_bytes(folder: Path) -> None:
    assert bill_of(folder) == bill_of(folder)


def test_it_holds_against_the_official_schema(folder: Path) -> None:
    validators = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    error = validators.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(json.dumps(bill_of(folder)))
    assert error is None
