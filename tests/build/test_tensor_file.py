"""What is no checkpoint is refused in one sentence, and nothing that lies in a file is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from build.tensor_file import CheckpointError, read_tensors  # noqa: E402

STATE = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.ones(20)}


class Runs:
    """A pickle of it makes a folder when it is read by a reader that runs code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [torch.save, save_legacy, save_file])
def test_a_state_dict_is_read_as_it_was_saved(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save(STATE, tmp_path / "checkpoint")  # told by content: the name says nothing
    found = read_tensors(tmp_path / "checkpoint")
    assert found.config is None
    assert found.state.keys() == STATE.keys()
    assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)


def test_a_training_checkpoint_holds_its_weights_beside_other_things(tmp_path: Path) -> None:
    content = {
        "model": {f"module.{name}": value for name, value in STATE.items()},
        "config": {"layers": 2},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(content, tmp_path / "last.pt")
    found = read_tensors(tmp_path / "last.pt")
    assert list(found.state) == list(STATE)
    assert found.config == {"layers": 2}
    assert "module." in found.notes[0]


def test_of_several_sets_of_weights_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"state_dict": STATE, "state_dict_ema": {"n_averaged": torch.tensor(5), "x": torch.ones(1)}}, path)
    with pytest.raises(CheckpointError, match=r"several sets.*--weights: state_dict, state_dict_ema"):
        read_tensors(path)
    assert list(read_tensors(path, "state_dict_ema").state) == ["x"]
    with pytest.raises(CheckpointError, match=r"no weights named 'ema', only: state_dict"):
        read_tensors(path, "ema")


def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    torch.save({"model": STATE, "extra": Runs(trap)}, tmp_path / "zip.pt")
    save_legacy({"model": STATE, "extra": Runs(trap)}, tmp_path / "legacy.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Runs(trap), protocol=2))
    for name in ("zip.pt", "legacy.pt", "plain.pkl"):
        with pytest.raises(CheckpointError, match=rf"{name}: holds code \((posix|os)\.mkdir\).*none of it was run"):
            read_tensors(tmp_path / name)
    assert not trap.exists()


def test_a_whole_pickled_module_is_code_too(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"holds code \(torch\.nn\.\S*Linear\).*torch\.save\(model\.state_dict"):
        read_tensors(tmp_path / "model.pt")


def write_zip(path: Path, compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl" if compression else "notes.txt", bytes(1000))


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "onnx": (b"\x08\x0a\x12\x04test", "an ONNX model"),
    "page": (b"<!DOCTYPE html><html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "no file of torch.save nor of safetensors"),
    "text": (b"epoch,loss\n1,0.3\n", "no file of torch.save nor of safetensors"),
    "header": ((90).to_bytes(8, "little") + b"{" + bytes(200), "safetensors file is truncated or damaged"),
    "beginning": (b"PK\x03\x04", "truncated or damaged"),
    "pickle": (pickle.dumps([1, 2, 3], protocol=2), "truncated, damaged or no file of torch.save"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_told(kind: str, tmp_path: Path) -> None:
    content, message = FOREIGN[kind]
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(tmp_path / "file.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'file.pt'}: ")
    assert "\n" not in str(caught.value)


def test_other_archives_and_torchscript_are_told(tmp_path: Path) -> None:
    write_zip(tmp_path / "stored.zip", zipfile.ZIP_STORED)
    write_zip(tmp_path / "packed.pt", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    for name, message in (
        ("stored.zip", "a zip archive that torch.save did not write"),
        ("packed.pt", "is compressed"),
        ("script.pt", "a TorchScript program"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_tensors(tmp_path / name)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path, tmp_path / "pipe.pt"):
        with pytest.raises(CheckpointError, match="is no file"):
            read_tensors(path)
    with pytest.raises(CheckpointError, match=r"none\.pt: cannot be read \(No such file"):
        read_tensors(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "holds no tensors"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"a": torch.ones(2), "epoch": 3}, "not all that is named is a tensor: epoch"),
        ({"model": {"a": torch.ones(2), 5: torch.ones(2)}}, "not all that is named is a tensor: 5"),
    ],
)
def test_contents_without_a_state_dict_are_told(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / "file.pt")


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_truncated_file_is_refused_wherever_it_ends(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save(STATE, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in [*range(1, len(whole), 97), len(whole) - 1]:
        (tmp_path / "part").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="part: "):
            read_tensors(tmp_path / "part")


def test_a_flipped_bit_in_the_weights_is_found_by_the_checksum(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "file.pt")
    content = bytearray((tmp_path / "file.pt").read_bytes())
    where = content.index(STATE["a.weight"].numpy().tobytes()) + 1000
    content[where] ^= 1
    (tmp_path / "file.pt").write_bytes(content)
    assert torch.load(tmp_path / "file.pt", weights_only=True).keys() == STATE.keys()  # torch itself is content
    with pytest.raises(CheckpointError, match=r"is damaged \(the checksum of file/data/0 is wrong\)"):
        read_tensors(tmp_path / "file.pt")


@pytest.mark.parametrize("save", [torch.save, save_legacy, save_file])
def test_any_damage_ends_as_one_sentence_or_as_tensors(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save(STATE, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    rng = random.Random(3)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4, 30])):
            content[rng.randrange(min(len(content), 1200))] = rng.randrange(256)
        (tmp_path / "part").write_bytes(content)
        try:
            found = read_tensors(tmp_path / "part")
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either end is right
        else:
            assert all(isinstance(value, torch.Tensor) for value in found.state.values())
