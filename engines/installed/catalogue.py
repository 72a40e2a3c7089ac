"""The models folder, ``<name>/<version>`` for each bundle: what is in it, taking new ones in, loading the one meant."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.backend import BundleError
from engines.bundle import Bundle, load_bundle
from engines.files import sync
from engines.installed.activation import Activation, Installed
from engines.installed.ledger import Ledger
from engines.manifest import MANIFEST_NAME
from engines.trust.verifying import SIGNATURE_NAME, Signer, Trust

VERIFICATION_NAME: Final = "verification.json"
_STAGING: Final = ".staging-"
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]*/\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Entry:
    """A bundle in the folder, usable or not."""

    label: str
    """``name/version``, from its place."""
    folder: Path
    role: str
    """``active``, ``provisional``, another stage of a candidate, ``previous``, ``given up`` or empty."""
    architecture: str = ""
    manifest_sha256: str = ""
    signer: Signer | None = None
    bytes: int = 0
    fault: str | None = None
    """Why it cannot be used, in one sentence."""


def identity(bundle: Bundle) -> Installed:
    """The bundle as the activation names it."""
    return Installed(bundle=bundle.label, manifest_sha256=bundle.manifest_sha256)


def is_label(text: str) -> bool:
    """Whether a text has the form ``name/version``."""
    return _LABEL.fullmatch(text) is not None


def load_labelled(models: Path, label: str, trust: Trust, *, check_hashes: bool = True) -> Bundle:
    """Load the bundle at ``models/<name>/<version>``.

    Raises:
        BundleError: it is not there, cannot be used, or says that it is another one.
    """
    if not is_label(label):
        raise BundleError(f"{label!r}: names no bundle; the form is NAME/VERSION, as dermascan engine list shows it")
    folder = models / label
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle is installed; dermascan engine list shows what there is")
    bundle = load_bundle(folder, check_hashes=check_hashes, trust=trust)
    if bundle.label != label:
        raise BundleError(f"{folder}: the bundle in it says that it is {bundle.label}; install it again")
    return bundle


def load_installed(models: Path, installed: Installed, trust: Trust) -> Bundle:
    """Load exactly the bundle that was activated, with every check.

    Raises:
        BundleError: it is gone or cannot be used, or another one lies in its place now.
    """
    bundle = load_labelled(models, installed.bundle, trust)
    if bundle.manifest_sha256 != installed.manifest_sha256:
        raise BundleError(
            f"{bundle.folder}: another bundle lies here than the one that was activated, under the same version;"
            f" activate it: dermascan engine activate {installed.bundle}, or install the former one again"
        )
    return bundle


def take_in(models: Path, source: Path, trust: Trust) -> Installed:
    """Copy a bundle into the models folder; it appears there whole or not at all.

    What is verified is the copy, so that nothing can be exchanged in between.

    Raises:
        BundleError: it cannot be used, the disk is full, or another bundle has its place.
    """
    bundle = load_bundle(source, check_hashes=False, trust=trust)
    target = models / bundle.label
    with Ledger(models).locked():
        for leftover in models.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if target.exists():
            return _same(load_bundle(target, trust=trust), bundle)
        working = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            working = Path(tempfile.mkdtemp(prefix=_STAGING, dir=models))
            _copy(bundle, working)
            installed = identity(load_bundle(working, trust=trust))
            working.chmod(0o755)
            working.rename(target)
            sync(target.parent)
        except OSError as error:
            raise BundleError(
                f"{target}: the bundle could not be copied there ({error.strerror}); make room or mend permissions, and"
                " begin again: the active bundle is as it was"
            ) from error
        finally:
            if working is not None:
                shutil.rmtree(working, ignore_errors=True)
    return installed


def _same(there: Bundle, given: Bundle) -> Installed:
    if there.manifest_sha256 != given.manifest_sha256:
        raise BundleError(
            f"{there.folder}: another bundle is installed under this name and version; give the new one another version"
        )
    return identity(there)


def _copy(bundle: Bundle, folder: Path) -> None:
    for name in (*bundle.manifest.files, MANIFEST_NAME, SIGNATURE_NAME, VERIFICATION_NAME):
        source, target = bundle.folder / name, folder / name
        if name == VERIFICATION_NAME and not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        sync(target)
    sync(folder)


def catalogue(models: Path, state: Activation, trust: Trust) -> tuple[Entry, ...]:
    """Every bundle in the folder, by name and version; files are hashed, so that what is shown is so."""
    folders = [path.parent for path in models.glob(f"*/*/{MANIFEST_NAME}")]
    labels = {f"{folder.parent.name}/{folder.name}" for folder in folders}
    return tuple(_entry(models, label, state, trust) for label in sorted(filter(is_label, labels), key=_order))


def _order(label: str) -> tuple[str, tuple[int, ...]]:
    name, _, version = label.partition("/")
    return name, tuple(int(part) for part in version.split("."))


def _entry(models: Path, label: str, state: Activation, trust: Trust) -> Entry:
    folder = models / label
    try:
        bundle = load_labelled(models, label, trust)
    except BundleError as error:
        return Entry(label, folder, _role(label, None, state), fault=str(error))
    installed = identity(bundle)
    return Entry(
        label,
        folder,
        _role(label, installed, state),
        bundle.manifest.architecture,
        bundle.manifest_sha256,
        bundle.signer,
        sum((folder / name).stat().st_size for name in bundle.manifest.files),
    )


def _role(label: str, installed: Installed | None, state: Activation) -> str:
    """Its part in the activation; a bundle that cannot be read has the part of its place."""

    def meant(other: Installed | None) -> bool:
        return other is not None and (other == installed if installed else other.bundle == label)

    if meant(state.active):
        return "active"
    if state.candidate is not None and meant(state.candidate.installed):
        return state.candidate.stage.value
    if meant(state.previous.installed if state.previous else None):
        return "previous"
    return "given up" if any(meant(failure.installed) for failure in state.failures) else ""
