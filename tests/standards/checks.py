"""What the standards themselves ask of an object, by tables and tools that are not ours."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def missing_attributes(dataset: pydicom.Dataset) -> list[str]:
    """Attributes of type 1 and 2 at the root of mandatory modules that are not there, or empty where they may not be.

    By the tables of the standard that highdicom carries (PS3.3).
    """
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

    modules = get_iod_module_map()[get_sop_class_iod_map()[dataset.SOPClassUID]]
    faults = []
    for module in modules:
        # An SR's content is a tree whose items have attributes by their kind: dciodvfy and highdicom read that.
        if module["usage"] != "M" or module["key"] == "sr-document-content":
            continue
        for attribute in get_module_attribute_map()[module["key"]]:
            if attribute["path"] or attribute["type"] not in ("1", "2"):
                continue
            keyword = str(attribute["keyword"])
            if keyword not in dataset:
                faults.append(f"{keyword} is not there")
            elif attribute["type"] == "1" and dataset[keyword].is_empty:
                faults.append(f"{keyword} is empty")
    return faults


def dciodvfy(data: bytes, folder: Path) -> list[str]:
    """What David Clunie's verifier calls an error; skipped where it is not installed."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed here (Debian's package dicom3tools)")
    path = folder / "object.dcm"
    path.write_bytes(data)
    said = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
    return [line for line in said.stderr.splitlines() if line.startswith("Error")]


def texts_of(item: Any) -> list[str]:
    """Every text in a report's tree."""
    found = [str(item.TextValue)] if "TextValue" in item else []
    for child in item.get("ContentSequence") or ():
        found += texts_of(child)
    return found
