"""Keys in files: made once, read back, and a sentence for everything that is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from engines.trust import keys
from engines.trust.keys import TrustError, add_trusted, make_key_pair, read_private_key, read_trust_folder


def test_a_pair_is_read_back_and_its_id_is_what_openssl_tells(tmp_path: Path) -> None:
    made = make_key_pair(tmp_path, "acme")
    assert stat.S_IMODE((tmp_path / "acme.key").stat().st_mode) == 0o600
    assert keys.read_public_key(tmp_path / "acme.pub").key_id == made.key_id
    assert keys.key_id_of(read_private_key(tmp_path / "acme.key").public_key()) == made.key_id
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("there is no openssl here to compare with")
    command = [openssl, "pkey", "-pubin", "-in", str(tmp_path / "acme.pub"), "-outform", "DER"]
    der = subprocess.run(command, capture_output=True, check=True).stdout
    assert hashlib.sha256(der).hexdigest() == made.key_id


def test_no_key_is_written_over(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "acme")
    before = (tmp_path / "acme.key").read_bytes()
    with pytest.raises(TrustError, match=r"acme.key: is already there"):
        make_key_pair(tmp_path, "acme")
    (tmp_path / "acme.key").rename(tmp_path / "other.key")
    with pytest.raises(TrustError, match=r"acme.pub: is already there"):
        make_key_pair(tmp_path, "acme")
    assert (tmp_path / "other.key").read_bytes() == before
    assert not (tmp_path / "acme.key").exists()


@pytest.mark.parametrize("name", ["", "../acme", "a/b", ".hidden", "a b", "x" * 65])
def test_a_name_that_is_no_files_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrustError, match="is no name for a key"):
        make_key_pair(tmp_path, name)
    with pytest.raises(TrustError, match="is no name for a key"):
        keys.remove_trusted(tmp_path, name)


def test_a_passphrase_is_asked_for_and_must_fit(tmp_path: Path) -> None:
    made = make_key_pair(tmp_path, "acme", b"open")
    path = tmp_path / "acme.key"
    assert keys.key_id_of(read_private_key(path, b"open").public_key()) == made.key_id
    with pytest.raises(TrustError, match="is protected by a passphrase; give --passphrase-file"):
        read_private_key(path)
    with pytest.raises(TrustError, match="is not opened by this passphrase"):
        read_private_key(path, b"shut")
    make_key_pair(tmp_path, "plain")
    with pytest.raises(TrustError, match="has no passphrase; leave out"):
        read_private_key(tmp_path / "plain.key", b"open")


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\n", b"\0" * 20_000])
def test_what_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pub"
    path.write_bytes(content)
    with pytest.raises(TrustError, match=r"a.pub: (holds no public key|the key cannot be read)"):
        keys.read_public_key(path)
    with pytest.raises(TrustError, match=r"a.pub: (holds no private key|the key cannot be read)"):
        read_private_key(path)
    with pytest.raises(TrustError, match=r"gone.pub: the key cannot be read \(No such file"):
        keys.read_public_key(tmp_path / "gone.pub")


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pub").write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "ec.key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(TrustError, match="is not Ed25519"):
        keys.read_public_key(tmp_path / "ec.pub")
    with pytest.raises(TrustError, match="is not Ed25519"):
        read_private_key(tmp_path / "ec.key")


def test_a_private_key_put_into_the_trust_folder_is_not_a_trusted_one(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "acme")
    (tmp_path / "acme.pub").write_bytes((tmp_path / "acme.key").read_bytes())
    found = read_trust_folder(tmp_path)
    assert found.keys == ()
    assert "holds no public key" in found.faults[0]


def test_the_trust_folder_takes_and_gives_up_keys(tmp_path: Path) -> None:
    folder, made = tmp_path / "etc" / "trust", tmp_path / "made"
    made.mkdir()
    first, second = make_key_pair(made, "first"), make_key_pair(made, "second")
    assert read_trust_folder(folder).keys == ()
    add_trusted(folder, first)
    add_trusted(folder, first)
    add_trusted(folder, second)
    assert {key.name: key.key_id for key in read_trust_folder(folder).keys} == {
        "first": first.key_id,
        "second": second.key_id,
    }
    with pytest.raises(TrustError, match="another key has this name"):
        add_trusted(folder, replace(second, name="first"))
    keys.remove_trusted(folder, "first")
    assert [key.name for key in read_trust_folder(folder).keys] == ["second"]
    with pytest.raises(TrustError, match="there is no such key"):
        keys.remove_trusted(folder, "first")


def test_a_broken_file_takes_no_other_keys_trust_away(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "good")
    (tmp_path / "bad.pub").write_text("half a ke")
    (tmp_path / "folder.pub").mkdir()
    os.mkfifo(tmp_path / "pipe.pub")  # reading it would wait for ever
    found = read_trust_folder(tmp_path)
    assert [key.name for key in found.keys] == ["good"]
    assert [fault.split(":")[0].rsplit("/", 1)[1] for fault in found.faults] == ["bad.pub", "folder.pub", "pipe.pub"]


@pytest.mark.fault("F15")
def test_what_everybody_may_write_proves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    folder.mkdir()
    make_key_pair(folder, "acme")
    (folder / "acme.pub").chmod(0o666)
    found = read_trust_folder(folder)
    assert found.keys == ()
    assert "everybody may write to this key" in found.faults[0]
    folder.chmod(0o777)
    with pytest.raises(TrustError, match="everybody may write to the trust folder"):
        read_trust_folder(folder)


@pytest.mark.fault("F15")
def test_the_demonstration_key_stays_the_same_and_is_never_trusted_by_name(tmp_path: Path) -> None:
    demo = keys.demo_public_key()
    # Bundles in the field are signed with it: it must not change.
    assert demo.key_id == "6277b02ffe6ed1e91da203f8d3b1f8d1ed0e5e670771e246c5c88970c83e79ab"
    with pytest.raises(TrustError, match="is never trusted"):
        add_trusted(tmp_path, replace(demo, name="acme"))
