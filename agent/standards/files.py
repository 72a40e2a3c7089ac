"""What an export gives: named files, and one archive of several."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can hold: the same files give the same archive."""


@dataclass(frozen=True)
class ExportFile:
    """One file of an export. Its name holds nothing of the patient."""

    name: str
    data: bytes
    content_type: str


def zipped(files: Iterable[ExportFile]) -> bytes:
    """The files in one ZIP archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name, _EPOCH), file.data, zipfile.ZIP_DEFLATED, 1)
    return target.getvalue()
