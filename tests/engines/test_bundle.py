"""A bundle is whole and untouched, or a sentence says which file is not."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.backend import BundleError
from engines.bundle import demo_bundle_folder, golden_input, load_bundle
from engines.trust.keys import demo_key
from engines.trust.signing import sign_bundle
from tests.fakes.bundles import Change, amend, replace_file


@pytest.fixture
def copy(tmp_path: Path, demo_bundle: Path) -> Path:
    return Path(shutil.copytree(demo_bundle, tmp_path / "demo" / demo_bundle.name))


def test_the_demo_bundle_is_whole(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    assert bundle.label == f"demo/{demo_bundle.name}"
    assert bundle.model_sha256 == hashlib.sha256(bundle.model_path.read_bytes()).hexdigest()
    assert bundle.manifest_sha256 == hashlib.sha256((demo_bundle / "manifest.json").read_bytes()).hexdigest()
    images = golden_input(bundle)
    size = bundle.manifest.input.size
    assert images.shape == (1, 3, size, size)
    assert images.dtype == np.float32


def test_a_link_to_the_folder_will_do(tmp_path: Path, demo_bundle: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(demo_bundle)
    assert load_bundle(link).folder == demo_bundle.resolve()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["classes"].reverse(), "classes must be exactly"),
        (lambda m: m.update(schema_version=2, novelty=1), "schema_version: 2 is not known"),
        (lambda m: m.pop("schema_version"), "schema_version: Field required"),
        (lambda m: m.update(extra=1), "extra: Extra inputs"),
        (lambda m: m["input"].update(std=[0.0, 1.0, 1.0]), "input.std.0"),
        (lambda m: m["golden"].update(probabilities=[0.5, 0.5]), "7 probabilities"),
        (lambda m: m["golden"].update(probabilities=[0.5] * 7), "sum to 1"),
        (lambda m: m["files"].pop("model.onnx"), "'model.onnx' is not listed"),
        (lambda m: m["golden"].update(image="other.png"), "'other.png' is not listed"),
        (lambda m: m["files"].update({"weights.bin": "0" * 64}), "weights.bin: the file is missing"),
        (lambda m: m["files"].update({"../outside": "0" * 64}), "no path inside the bundle"),
        (lambda m: m["files"].update({"/etc/passwd": "0" * 64}), "no path inside the bundle"),
    ],
)
def test_a_bad_manifest_is_named(copy: Path, change: Change, words: str) -> None:
    amend(copy, change)
    with pytest.raises(BundleError) as caught:
        load_bundle(copy)
    assert words in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_what_is_no_json_is_named(copy: Path, text: bytes) -> None:
    (copy / "manifest.json").write_bytes(text)
    sign_bundle(copy, demo_key())
    with pytest.raises(BundleError, match=r"manifest.json: .*install the bundle again"):
        load_bundle(copy)


def test_a_missing_folder_or_manifest_is_named(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no such folder; point inference\.bundle at"):
        load_bundle(copy / "nowhere")
    with pytest.raises(BundleError, match="is not a folder"):
        load_bundle(copy / "model.onnx")
    (copy / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read \(No such file"):
        load_bundle(copy)


def test_a_manifest_that_is_no_file_or_far_too_large_is_named(copy: Path) -> None:
    path = copy / "manifest.json"
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read \(it is no regular file"):
        load_bundle(copy)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read \(it is larger than"):
        load_bundle(copy)


@pytest.mark.parametrize("name", ["model.onnx", "golden.png"])
def test_a_missing_empty_or_changed_file_is_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}: the file was changed or damaged"):
        load_bundle(copy)
    load_bundle(copy, check_hashes=False)
    (copy / name).write_bytes(b"")
    with pytest.raises(BundleError, match=f"{name}: the file is empty"):
        load_bundle(copy, check_hashes=False)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: the file is missing"):
        load_bundle(copy, check_hashes=False)


def test_a_link_that_leaves_the_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (copy / "model.onnx").rename(outside)
    (copy / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match=r"model.onnx: the file is a link that leaves"):
        load_bundle(copy)


@pytest.mark.parametrize("data", [b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_golden_image_that_is_no_picture_is_named(copy: Path, data: bytes) -> None:
    replace_file(copy, "golden.png", data)
    with pytest.raises(BundleError, match=r"golden.png: the golden image cannot be"):
        golden_input(load_bundle(copy))


def test_the_highest_version_of_the_demo_bundle_is_taken(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", "0.2.11", "notes"):
        (tmp_path / "demo" / version).mkdir(parents=True)
        (tmp_path / "demo" / version / "manifest.json").touch()
    (tmp_path / "demo" / "1.0.0").mkdir()  # no manifest: a copy that was interrupted
    assert demo_bundle_folder(tmp_path).name == "0.10.0"


def test_no_demo_bundle_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no bundle"):
        demo_bundle_folder(tmp_path)
