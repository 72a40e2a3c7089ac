"""Bundles made for a test: the demonstration bundle copied, changed, and signed anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.trust.keys import demo_key
from engines.trust.signing import sign_bundle

Change = Callable[[dict[str, Any]], object]


def copy_bundle(bundle: Path, folder: Path, change: Change | None = None) -> Path:
    """Copy a bundle to ``folder``, with its manifest changed; signed with the demonstration key."""
    shutil.copytree(bundle, folder)
    if change is not None:
        amend(folder, change)
    return folder


def amend(folder: Path, change: Change, *, sign: bool = True) -> None:
    """Change a bundle's manifest in place."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    if sign:
        sign_bundle(folder, demo_key())


def new_version(bundle: Path, models: Path, version: str, change: Change | None = None) -> Path:
    """A bundle like another, as ``models/<name>/<version>``."""

    def renamed(manifest: dict[str, Any]) -> None:
        manifest["version"] = version
        if change is not None:
            change(manifest)

    name = json.loads((bundle / "manifest.json").read_text())["name"]
    (models / name).mkdir(parents=True, exist_ok=True)
    return copy_bundle(bundle, models / name / version, renamed)


def wrong_golden(manifest: dict[str, Any]) -> None:
    """A change: the golden image's expected answer is another one, so that no engine passes."""
    manifest["golden"]["probabilities"] = manifest["golden"]["probabilities"][::-1]


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Put another file into a bundle, as if it had been shipped so: listed with its hash, and signed."""
    (folder / name).write_bytes(data)
    amend(folder, lambda manifest: manifest["files"].update({name: hashlib.sha256(data).hexdigest()}))


def hollow(manifest: dict[str, Any]) -> None:
    """A change: only the model and the golden image are listed, for bundles that are installed but never run."""
    manifest["files"] = {name: manifest["files"][name] for name in ("model.onnx", "golden.png")}


def small_bundle(bundle: Path, folder: Path, model: bytes = b"no model") -> Path:
    """A bundle of a few kilobytes that is whole and signed, as ``.../<name>/<version>``; no engine can run it."""
    folder.mkdir(parents=True)
    for name in ("manifest.json", "golden.png"):
        shutil.copyfile(bundle / name, folder / name)
    (folder / "model.onnx").write_bytes(model)

    def change(manifest: dict[str, Any]) -> None:
        hollow(manifest)
        manifest["files"]["model.onnx"] = hashlib.sha256(model).hexdigest()
        manifest["name"], manifest["version"] = folder.parent.name, folder.name

    amend(folder, change)
    return folder
