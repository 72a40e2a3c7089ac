"""Reads the tensors of a ``.pt`` or ``.safetensors`` file without running anything that lies in it.

A checkpoint comes from elsewhere, and a pickle is a program. torch's restricted reader runs none of it; what it
refuses, and every truncated, damaged or foreign file, ends as one sentence that says what the file is.
"""

from __future__ import annotations

import argparse
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from engines.backend import BundleError

LARGEST: Final = 8 << 30
"""Bytes. A training checkpoint of ViT-B with two copies of its weights and its optimiser has 1.7 GB."""
_SAVE_AGAIN: Final = "save the weights alone: torch.save(model.state_dict(), FILE)"
_COPY_AGAIN: Final = "copy or download it again"
_FOREIGN: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it points to; run: git lfs pull"),
    (b"<", "a web page or XML, not a checkpoint; download it again, signed in"),
    (b"\x89HDF", "a Keras (HDF5) file; export takes PyTorch weights"),
    (b"\x93NUMPY", "a NumPy array; export takes PyTorch weights"),
    (b"\x08", "an ONNX model or another protobuf file; export takes the checkpoint that it was made from"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
)


class CheckpointError(BundleError):
    """A checkpoint cannot be exported. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class TensorFile:
    """A network's tensors by name, as they lie in the file, and the sizes that our own training noted down beside."""

    state: Mapping[str, Tensor]
    config: Mapping[str, object] | None
    notes: tuple[str, ...] = ()


def read_tensors(path: Path, weights: str | None = None) -> TensorFile:
    """Read a state dict, alone or within a training checkpoint.

    Args:
        path: ``.pt``, ``.pth``, ``.bin`` (as torch.save writes them) or ``.safetensors``; told by content, not by name.
        weights: Which set of weights, where the file has several ("model", "model_ema", ...).

    Raises:
        CheckpointError: the file is missing, empty, too large, truncated, damaged or foreign, holds code, or holds no
            or several sets of weights.
    """
    beginning = _beginning(path)
    if _is_safetensors(beginning):
        return _chosen(path, _read_safetensors(path), weights)
    if beginning.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return _chosen(path, _read_torch(path, mapped=True), weights)
    if beginning.startswith(b"\x80"):  # torch.save before torch 1.6
        return _chosen(path, _read_torch(path, mapped=False), weights)
    for mark, what in _FOREIGN:
        if beginning.startswith(mark):
            raise CheckpointError(f"{path}: is {what}")
    raise CheckpointError(f"{path}: is no file of torch.save nor of safetensors, or is damaged; {_COPY_AGAIN}")


def _beginning(path: Path) -> bytes:
    """The first bytes of a regular file of a sane size."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"{path}: is no file; name a .pt or .safetensors file")
        if found.st_size == 0:
            raise CheckpointError(f"{path}: the file is empty; {_COPY_AGAIN}")
        if found.st_size > LARGEST:
            raise CheckpointError(f"{path}: has {found.st_size / 1e9:.0f} GB, more than any ViT-B; {_SAVE_AGAIN}")
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); name a .pt or .safetensors file") from error


def _is_safetensors(beginning: bytes) -> bool:
    """A header's length as 64 bits, and then JSON."""
    return len(beginning) > 8 and beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < 100_000_000


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: the safetensors file is truncated or damaged ({_first_line(error)}); {_COPY_AGAIN}"
        ) from error


def _check_archive(path: Path) -> None:
    """torch.save writes an uncompressed zip archive, and its reader looks at no checksum: look here."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                raise CheckpointError(f"{path}: is a TorchScript program, which is code; {_SAVE_AGAIN}")
            if not any(name.endswith("/data.pkl") for name in names):
                raise CheckpointError(f"{path}: is a zip archive that torch.save did not write; {_SAVE_AGAIN}")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(f"{path}: is compressed, which torch.save never does; {_SAVE_AGAIN}")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({_first_line(error)}); {_COPY_AGAIN}") from error
    if damaged is not None:
        raise CheckpointError(f"{path}: is damaged (the checksum of {damaged} is wrong); {_COPY_AGAIN}")


def _read_torch(path: Path, *, mapped: bool) -> object:
    """What torch.save wrote, read with code refused; ``mapped`` leaves on disk what nobody looks at."""
    # Training scripts save their arguments beside the weights; a Namespace only holds values.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols: what matters is raised
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
            if refused := re.search(r"(?:GLOBAL|unrecognized function) (\S+)", str(error)):
                raise CheckpointError(
                    f"{path}: holds code ({refused[1]}) beside or instead of tensors; none of it was run; {_SAVE_AGAIN}"
                ) from error
            raise CheckpointError(f"{path}: is truncated, damaged or no file of torch.save; {_COPY_AGAIN}") from error


def _chosen(path: Path, content: object, weights: str | None) -> TensorFile:
    """The one set of weights in what was read."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__} and no named tensors; {_SAVE_AGAIN}")
    if any(isinstance(value, Tensor) for value in content.values()):
        return _stripped(path, content, None)
    sets = [name for name, value in content.items() if isinstance(value, Mapping) and _holds_tensors(value)]
    if not sets:
        raise CheckpointError(f"{path}: holds no tensors; {_SAVE_AGAIN}")
    if weights is None and len(sets) > 1:
        raise CheckpointError(f"{path}: holds several sets of weights; choose one with --weights: {', '.join(sets)}")
    name = weights or sets[0]
    if name not in sets:
        raise CheckpointError(f"{path}: holds no weights named {name!r}, only: {', '.join(map(str, sets))}")
    config = content.get("config")
    return _stripped(path, content[name], config if isinstance(config, Mapping) else None)


def _holds_tensors(value: Mapping[object, object]) -> bool:
    return any(isinstance(entry, Tensor) for entry in value.values())


def _stripped(path: Path, state: Mapping[object, object], config: Mapping[str, object] | None) -> TensorFile:
    """Names without what wrappers put before them, and without an average's counter."""
    bad = [str(name) for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if bad:
        raise CheckpointError(f"{path}: not all that is named is a tensor: {', '.join(bad[:8])}; {_SAVE_AGAIN}")
    named = {str(name): value for name, value in state.items() if isinstance(value, Tensor) and name != "n_averaged"}
    notes = []
    for prefix in ("module.", "_orig_mod.", "model.") * 2:
        if named and all(name.startswith(prefix) for name in named):
            named = {name[len(prefix) :]: value for name, value in named.items()}
            notes.append(f"the names' common beginning {prefix!r} was taken off")
    return TensorFile(named, config, tuple(notes))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
