"""The models folder: bundles come in whole, and what runs is what was activated (F15, F27)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engines.backend import BundleError
from engines.installed import catalogue as catalogue_module
from engines.installed.activation import Activation, Installed, stage
from engines.installed.catalogue import catalogue, identity, load_installed, load_labelled, take_in
from engines.installed.ledger import Ledger
from engines.trust.verifying import DEMO_TRUST
from tests.fakes.bundles import amend, replace_file, small_bundle

LABEL = "demo/1.2.0"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path, demo_bundle: Path) -> Path:
    return small_bundle(demo_bundle, tmp_path / "outside" / LABEL)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_bundle_comes_in_whole_with_its_signature_and_record(models: Path, outside: Path) -> None:
    (outside / "verification.json").write_text("{}")
    (outside / "stray.so").write_text("not listed: stays outside")
    installed = take_in(models, outside, DEMO_TRUST)
    assert installed == identity(load_labelled(models, LABEL, DEMO_TRUST))
    assert names(models / LABEL) == {
        "manifest.json",
        "signature.json",
        "model.onnx",
        "golden.png",
        "verification.json",
    }
    assert names(models) == {"demo", ".active.lock"}
    assert take_in(models, outside, DEMO_TRUST) == installed  # a second time it is there already


def test_another_bundle_under_the_same_version_is_refused(models: Path, outside: Path) -> None:
    first = take_in(models, outside, DEMO_TRUST)
    replace_file(outside, "model.onnx", b"another one")
    with pytest.raises(BundleError, match="another bundle is installed under this name and version"):
        take_in(models, outside, DEMO_TRUST)
    assert load_installed(models, first, DEMO_TRUST).model_path.read_bytes() == b"no model"


@pytest.mark.fault("F15")
@pytest.mark.parametrize("spoil", ["signature.json", "manifest.json", "model.onnx"])
def test_a_tampered_bundle_does_not_come_in(models: Path, outside: Path, spoil: str) -> None:
    data = (outside / spoil).read_bytes()
    (outside / spoil).write_bytes(
        data[:-1] + bytes([data[-1] ^ 1]) if spoil == "model.onnx" else data.replace(b"a", b"b")
    )
    with pytest.raises(BundleError, match=spoil.partition(".")[0]):
        take_in(models, outside, DEMO_TRUST)
    assert names(models) <= {".active.lock", "demo"}
    assert not (models / LABEL).exists()


def test_a_full_disk_leaves_nothing_behind(models: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if target.name == "model.onnx":
            target.write_bytes(b"no")
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(catalogue_module.shutil, "copyfile", full)
    with pytest.raises(BundleError, match=r"could not be copied there \(No space left on device\)"):
        take_in(models, outside, DEMO_TRUST)
    assert names(models) == {".active.lock", "demo"}
    assert names(models / "demo") == set()
    monkeypatch.undo()
    take_in(models, outside, DEMO_TRUST)


@pytest.mark.fault("F27")
def test_what_lies_there_now_must_be_what_was_activated(models: Path, outside: Path) -> None:
    installed = take_in(models, outside, DEMO_TRUST)
    assert load_installed(models, installed, DEMO_TRUST).label == LABEL
    replace_file(models / LABEL, "model.onnx", b"signed, whole, and another one")
    with pytest.raises(BundleError, match="another bundle lies here than the one that was activated"):
        load_installed(models, installed, DEMO_TRUST)
    shutil.rmtree(models / LABEL)
    with pytest.raises(BundleError, match="no such bundle is installed"):
        load_installed(models, installed, DEMO_TRUST)


def test_a_bundle_in_anothers_place_is_refused(models: Path, outside: Path) -> None:
    shutil.copytree(outside, models / "demo" / "9.9.9")
    with pytest.raises(BundleError, match=r"the bundle in it says that it is demo/1.2.0"):
        load_labelled(models, "demo/9.9.9", DEMO_TRUST)


@pytest.mark.parametrize("label", ["", "demo", "../demo/1.0.0", "demo/1.0", "demo/../1.0.0", "/etc/1.0.0"])
def test_a_label_is_name_and_version_and_nothing_else(models: Path, label: str) -> None:
    with pytest.raises(BundleError, match="names no bundle"):
        load_labelled(models, label, DEMO_TRUST)


def test_the_catalogue_tells_roles_signers_and_faults(models: Path, demo_bundle: Path) -> None:
    for version in ("1.2.0", "1.10.0", "1.9.0"):
        small_bundle(demo_bundle, models / "demo" / version)
    small_bundle(demo_bundle, models / "another" / "0.0.1")
    (models / "demo" / "notes").mkdir()
    (models / "demo" / "1.9.0" / "signature.json").unlink()
    (models / "demo" / "3.0.0").mkdir()  # no manifest: not a bundle
    state = stage(Activation(), identity(load_labelled(models, "demo/1.10.0", DEMO_TRUST)))
    first, *rest = catalogue(models, state, DEMO_TRUST)
    assert (first.label, first.role, first.fault) == ("another/0.0.1", "", None)
    assert [(entry.label, entry.role) for entry in rest] == [
        ("demo/1.2.0", ""),
        ("demo/1.9.0", ""),
        ("demo/1.10.0", "staged"),
    ]
    assert rest[1].fault is not None
    assert "the bundle is not signed" in rest[1].fault
    assert first.signer is not None
    assert first.bytes == sum((first.folder / name).stat().st_size for name in ("model.onnx", "golden.png"))


def test_an_active_bundle_that_cannot_be_read_keeps_its_role(models: Path, outside: Path) -> None:
    installed = take_in(models, outside, DEMO_TRUST)
    ledger = Ledger(models)
    ledger.change(lambda state: stage(state, installed))
    amend(models / LABEL, lambda manifest: manifest.pop("licence"))
    (entry,) = catalogue(models, ledger.read(), DEMO_TRUST)
    assert (entry.role, entry.signer) == ("staged", None)
    assert entry.fault is not None
    assert "licence: Field required" in entry.fault


def test_a_replaced_bundle_does_not_inherit_the_role(models: Path, outside: Path) -> None:
    installed = take_in(models, outside, DEMO_TRUST)
    replace_file(models / LABEL, "model.onnx", b"another")
    state = stage(Activation(), Installed(bundle=LABEL, manifest_sha256=installed.manifest_sha256))
    (entry,) = catalogue(models, state, DEMO_TRUST)
    assert (entry.role, entry.fault) == ("", None)
