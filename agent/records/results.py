"""The result files: ``results/<scan_id>.json`` and ``.png``, each there whole or not at all, through any crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

RESULTS_DIR = "results"
"""Under ``state_dir``."""
FILE_MODE = 0o640
FOLDER_MODE = 0o750
TEMPORARY = ".part"


def open_results(state_dir: Path) -> Path:
    """The results folder, made where missing, without the leftovers of a crash."""
    folder = state_dir / RESULTS_DIR
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    for leftover in folder.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)
    return folder


def write_results(folder: Path, scan_id: str, json_bytes: bytes, png_bytes: bytes | None) -> int:
    """Write a scan's files; both are durable when this returns the number of bytes written.

    Args:
        folder: from ``open_results``.
        scan_id: names the files.
        json_bytes: the answer or the refusal as JSON; it is written indented for people.
        png_bytes: the overlay; None for a refused scan, or to leave the picture as it is.

    Raises:
        OSError: the disk is full or broken; no half file is left under the final names.
    """
    text = json.dumps(json.loads(json_bytes), indent=2, ensure_ascii=False) + "\n"
    contents = {f"{scan_id}.json": text.encode()}
    if png_bytes is not None:
        # The picture first: whoever waits for the JSON finds the picture beside it.
        contents = {f"{scan_id}.png": png_bytes, **contents}
    for name, data in contents.items():
        _place(folder / name, data)
    sync_folder(folder)
    return sum(len(data) for data in contents.values())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, and durable when this returns."""
    _place(path, data)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(path: Path, data: bytes) -> None:
    """Temporary file in the same folder, write, fsync, rename. A dot name, so that nobody takes it for a result."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
