"""No bundle is loaded that a believed key did not sign, to the byte (F15)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.backend import BundleError
from engines.bundle import load_bundle, read_unsigned_bundle
from engines.trust import keys
from engines.trust.dsse import PAYLOAD_TYPE, Envelope, Signature, pre_authentication_encoding, write_envelope
from engines.trust.keys import demo_key, make_key_pair, read_private_key
from engines.trust.signing import sign_bundle
from engines.trust.verifying import DEMO_TRUST, Trust, verify_signature
from tests.fakes.bundles import amend

pytestmark = pytest.mark.fault("F15")


@pytest.fixture
def bundle(tmp_path: Path, demo_bundle: Path) -> Path:
    return Path(shutil.copytree(demo_bundle, tmp_path / "demo" / demo_bundle.name))


@pytest.fixture
def acme(tmp_path: Path) -> Trust:
    """A device that trusts one company's key and no demonstration."""
    folder = tmp_path / "trust"
    folder.mkdir()
    make_key_pair(folder, "acme")
    return Trust(folder, require_trusted=True)


def own_key(trust: Trust) -> Any:
    assert trust.folder is not None
    return read_private_key(trust.folder / "acme.key")


def test_the_demo_bundle_is_signed_with_the_demonstration_key(demo_bundle: Path) -> None:
    signer = load_bundle(demo_bundle).signer
    assert signer is not None
    assert (signer.demo, signer.name, signer.key_id) == (True, keys.DEMO_NAME, keys.demo_public_key().key_id)


def test_the_demonstration_key_is_refused_where_trust_is_required(demo_bundle: Path, acme: Trust) -> None:
    with pytest.raises(BundleError, match=r"signature.json: .*inference\.require_trusted = true refuses it"):
        load_bundle(demo_bundle, trust=acme)
    with pytest.raises(BundleError, match=r"inference\.require_trusted = true refuses it"):
        load_bundle(demo_bundle, trust=Trust(None, require_trusted=True))


def test_the_demonstration_key_is_refused_even_where_somebody_put_it_into_the_trust_folder(
    demo_bundle: Path, acme: Trust
) -> None:
    assert acme.folder is not None
    (acme.folder / "innocent.pub").write_bytes(keys._pem(keys.demo_public_key().key))
    with pytest.raises(BundleError, match=r"inference\.require_trusted = true refuses it"):
        load_bundle(demo_bundle, trust=acme)


def test_a_bundle_signed_by_a_trusted_key_runs_and_by_another_does_not(
    bundle: Path, acme: Trust, tmp_path: Path
) -> None:
    sign_bundle(bundle, own_key(acme))
    signer = load_bundle(bundle, trust=acme).signer
    assert signer is not None
    assert (signer.name, signer.demo) == ("acme", False)
    for other in (DEMO_TRUST, Trust(tmp_path / "nowhere"), Trust(tmp_path / "nowhere", require_trusted=True)):
        with pytest.raises(BundleError, match="signed with a key that this device does not trust"):
            load_bundle(bundle, trust=other)


def test_a_key_file_that_cannot_be_read_is_told_of_where_it_may_be_the_reason(bundle: Path, acme: Trust) -> None:
    sign_bundle(bundle, own_key(acme))
    assert acme.folder is not None
    (acme.folder / "acme.pub").write_text("half a ke")
    with pytest.raises(BundleError, match=r"not usable there: .*acme.pub: holds no public key"):
        load_bundle(bundle, trust=acme)


def test_an_unsigned_bundle_does_not_run_whoever_is_trusted(bundle: Path, acme: Trust) -> None:
    (bundle / "signature.json").unlink()
    for trust in (DEMO_TRUST, acme):
        with pytest.raises(BundleError, match=r"signature.json: is missing: the bundle is not signed"):
            load_bundle(bundle, trust=trust)
        with pytest.raises(BundleError, match="is missing"):
            load_bundle(bundle, trust=trust, check_hashes=False)
    assert read_unsigned_bundle(bundle).signer is None


def test_a_manifest_changed_after_signing_does_not_run(bundle: Path) -> None:
    amend(bundle, lambda manifest: manifest["operating_point"].update(threshold=0.9), sign=False)
    with pytest.raises(BundleError, match=r"manifest.json was changed after it was signed"):
        load_bundle(bundle, check_hashes=False)


def test_a_flipped_bit_anywhere_in_the_manifest_is_noticed(bundle: Path) -> None:
    good = (bundle / "manifest.json").read_bytes()
    for place in range(0, len(good), 3):
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        with pytest.raises(BundleError, match="changed after it was signed"):
            verify_signature(bundle, DEMO_TRUST, bytes(changed))


def test_no_flipped_bit_of_the_signature_lets_anything_else_through(bundle: Path) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    path = bundle / "signature.json"
    good = path.read_bytes()
    places, refused = range(0, len(good), 7), 0
    for place in places:
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        # Where it is not refused, a space or the key's id was hit, which is only a hint: what is signed is the same.
        with contextlib.suppress(BundleError):
            refused += 1
            assert verify_signature(bundle, DEMO_TRUST, manifest).demo
            refused -= 1
    assert refused > 0.9 * len(places)


@pytest.mark.parametrize("length", [0, 1, 100, 2000])
def test_a_truncated_signature_is_named(bundle: Path, length: int) -> None:
    path = bundle / "signature.json"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match=r"signature.json: (is empty|is not valid JSON); install the bundle again"):
        load_bundle(bundle)


@pytest.mark.parametrize("content", [b"[]", b"\x00" * 50, b"null", b'{"signatures": "x"}'])
def test_a_foreign_file_for_a_signature_is_named(bundle: Path, content: bytes) -> None:
    (bundle / "signature.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"signature.json: is (no DSSE envelope|not valid JSON)"):
        load_bundle(bundle)


def test_a_signature_that_is_no_file_or_far_too_large_is_named(bundle: Path) -> None:
    path = bundle / "signature.json"
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    with pytest.raises(BundleError, match=r"signature.json: cannot be read \(it is no regular file"):
        load_bundle(bundle)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(BundleError, match=r"signature.json: cannot be read \(it is larger than"):
        load_bundle(bundle)


def test_another_bundles_signature_does_not_fit(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "demo" / "9.9.9"))
    amend(other, lambda manifest: manifest.update(version="9.9.9"))
    shutil.copyfile(other / "signature.json", bundle / "signature.json")
    with pytest.raises(BundleError, match="is the signature of another manifest"):
        load_bundle(bundle)


def envelope(manifest: bytes, change: Callable[[bytes], bytes] = bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """An envelope with the demonstration key's name on it and a signature over ``change(what is to be signed)``."""
    value = demo_key().sign(change(pre_authentication_encoding(kind, manifest)))
    return write_envelope(Envelope(kind, manifest, (Signature(keys.demo_public_key().key_id, value),)))


def test_a_signature_over_bare_bytes_or_another_kind_of_document_does_not_fit(bundle: Path) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    path = bundle / "signature.json"
    path.write_bytes(envelope(manifest))
    verify_signature(bundle, DEMO_TRUST, manifest)
    path.write_bytes(envelope(manifest, lambda _: manifest))
    with pytest.raises(BundleError, match="the signature that names demonstration key is forged or damaged"):
        verify_signature(bundle, DEMO_TRUST, manifest)
    path.write_bytes(envelope(manifest, kind="application/vnd.in-toto+json"))
    with pytest.raises(BundleError, match=r"is a signature over 'application/vnd.in-toto\+json', not over"):
        verify_signature(bundle, DEMO_TRUST, manifest)


def test_a_trusted_name_on_a_strangers_signature_helps_nobody(bundle: Path, acme: Trust) -> None:
    path = bundle / "signature.json"
    content = json.loads(path.read_bytes())
    assert acme.folder is not None
    content["signatures"][0]["keyid"] = keys.read_public_key(acme.folder / "acme.pub").key_id
    path.write_text(json.dumps(content))
    trust = Trust(acme.folder, require_trusted=True)
    with pytest.raises(BundleError, match="require_trusted = true refuses it"):  # the demonstration key did sign it
        load_bundle(bundle, trust=trust)
    content["signatures"][0]["sig"] = base64.b64encode(b"\0" * 64).decode()
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="the signature that names acme is forged or damaged"):
        load_bundle(bundle, trust=trust)


def test_two_signers_and_either_will_do(bundle: Path, acme: Trust) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    signed = pre_authentication_encoding(PAYLOAD_TYPE, manifest)
    both = (Signature("", demo_key().sign(signed)), Signature("", own_key(acme).sign(signed)))
    (bundle / "signature.json").write_bytes(write_envelope(Envelope(PAYLOAD_TYPE, manifest, both)))
    assert verify_signature(bundle, acme, manifest).name == "acme"
    assert verify_signature(bundle, DEMO_TRUST, manifest).demo


def test_signing_replaces_and_leaves_no_half_file(bundle: Path, acme: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (bundle / "signature.json").read_bytes()
    names = {path.name for path in bundle.iterdir()}

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BundleError, match=r"signature.json: cannot be written \(No space left"):
            sign_bundle(bundle, own_key(acme))
    assert (bundle / "signature.json").read_bytes() == before
    assert {path.name for path in bundle.iterdir()} == names
    sign_bundle(bundle, own_key(acme))
    assert stat.S_IMODE((bundle / "signature.json").stat().st_mode) == 0o644
    load_bundle(bundle, trust=acme)
