"""Writes the bill of materials of a packed release: CycloneDX 1.6, JSON: scripts/sbom.py FOLDER > sbom.cdx.json.

Every wheel with its hash and licence, the demonstration model, and what needs what. Made of the files themselves, so
that it cannot name anything that is not delivered. The same release gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
import zipfile
from datetime import datetime, timezone
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

OURS = "dermascan-edge"
_SPDX = re.compile(r"[A-Za-z0-9.+-]+")
_CLASSIFIED = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def normalised(name: str) -> str:
    """A package's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def metadata(wheel: Path) -> Message:
    """What a wheel says about itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(entry for entry in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry))
        return Parser().parsestr(archive.read(name).decode())


def licences(about: Message) -> list[dict[str, Any]]:
    """A package's licence: its SPDX expression, else what its classifiers or its free text say."""
    if expression := about.get("License-Expression"):
        return [{"expression": expression}]
    known = [_CLASSIFIED[entry] for entry in about.get_all("Classifier", []) if entry in _CLASSIFIED]
    if known:
        return [{"license": {"id": name}} for name in dict.fromkeys(known)]
    text = (about.get("License") or "").strip().splitlines()
    return [{"license": {"name": text[0][:100]}}] if text and text[0] else []


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def component(wheel: Path, about: Message) -> dict[str, Any]:
    """A wheel as a component."""
    name, version = normalised(about["Name"]), about["Version"]
    found: dict[str, Any] = {
        "type": "application" if name == OURS else "library",
        "bom-ref": f"pkg:pypi/{name}@{version}?file_name={wheel.name}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}?file_name={wheel.name}",
        "hashes": [{"alg": "SHA-256", "content": sha256(wheel)}],
    }
    if given := licences(about):
        found["licenses"] = given
    if summary := about.get("Summary"):
        found["description"] = summary
    return found


def models(wheel: Path) -> list[dict[str, Any]]:
    """The engine bundles inside our own wheel."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in sorted(archive.namelist()):
            if re.fullmatch(r"engines/models/[^/]+/[^/]+/manifest\.json", entry):
                folder = entry.removesuffix("manifest.json")
                name, version = folder.split("/")[2:4]
                files = sorted(one for one in archive.namelist() if one.startswith(folder) and not one.endswith("/"))
                found.append(
                    {
                        "type": "machine-learning-model",
                        "bom-ref": f"model:{name}@{version}",
                        "name": name,
                        "version": version,
                        "licenses": [{"license": {"id": "CC-BY-NC-4.0"}}],
                        "hashes": [
                            {
                                "alg": "SHA-256",
                                "content": hashlib.sha256(archive.read(f"{folder}model.onnx")).hexdigest(),
                            }
                        ],
                        "properties": [
                            {
                                "name": f"dermascan:sha256:{one.removeprefix(folder)}",
                                "value": hashlib.sha256(archive.read(one)).hexdigest(),
                            }
                            for one in files
                        ],
                    }
                )
    return found


def bill(release: Path) -> dict[str, Any]:
    """The whole bill of a release's folder."""
    wheels = {wheel: metadata(wheel) for wheel in sorted((release / "wheels").glob("*.whl"))}
    components = {wheel: component(wheel, about) for wheel, about in wheels.items()}
    own = next(wheel for wheel, about in wheels.items() if normalised(about["Name"]) == OURS)
    bundles = models(own)
    by_name: dict[str, list[str]] = {}
    for found in components.values():
        by_name.setdefault(found["name"], []).append(found["bom-ref"])
    dependencies = []
    for wheel, about in wheels.items():
        needed = {normalised(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in about.get_all("Requires-Dist", [])}  # type: ignore[index]
        refs = sorted(ref for name in needed for ref in by_name.get(name, []) if name != components[wheel]["name"])
        if wheel == own:
            refs += [bundle["bom-ref"] for bundle in bundles]
        dependencies.append({"ref": components[wheel]["bom-ref"], "dependsOn": refs})
    rest = [found for wheel, found in components.items() if wheel != own] + bundles
    contents = "".join(sorted(found["hashes"][0]["content"] for found in (*components.values(), *bundles)))
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, contents)}",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "scripts/sbom.py"}]},
            "component": components[own],
        },
        "components": rest,
        "dependencies": [*dependencies, *({"ref": bundle["bom-ref"], "dependsOn": []} for bundle in bundles)],
    }


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1])), sys.stdout, indent=1)
    sys.stdout.write("\n")
