"""``dermascan engine keygen | sign | trust``: who vouches for a bundle, and who is believed."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.backend import BundleError
from engines.bundle import read_unsigned_bundle
from engines.commands.places import CODES, EXIT_OK, add_trust_options, trust_from
from engines.files import read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    parser = verbs.add_parser(
        "keygen",
        help="make a key pair to sign bundles with",
        description="Make NAME.key, which stays with whoever signs, and NAME.pub, which devices are told to trust. "
        + CODES,
    )
    parser.add_argument("name", metavar="NAME", help="the files' name: who signs, for example the company")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to put them (default: here)")
    _passphrase_option(parser)
    _json_option(parser)
    parser.set_defaults(run=keygen)

    parser = verbs.add_parser(
        "sign",
        help="sign a bundle",
        description="Check every file of a bundle against its manifest, then sign the manifest: signature.json, a DSSE "
        "envelope with an Ed25519 signature. An older signature is replaced. " + CODES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key", type=Path, metavar="FILE", help="the private key that engine keygen made")
    keys.add_argument(
        "--demo", action="store_true", help="the demonstration key, which everybody has: it vouches for nothing"
    )
    _passphrase_option(parser)
    _json_option(parser)
    parser.set_defaults(run=sign)
    _register_trust(verbs)


def _register_trust(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "trust",
        help="show, add or remove the keys that this device believes",
        description="The trust folder holds the public keys whose signature makes a bundle fit to run. " + CODES,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, text, run in (
        ("list", "show the keys", trust_list),
        ("add", "believe a key from now on", trust_add),
        ("remove", "believe a key no longer", trust_remove),
    ):
        action = actions.add_parser(name, help=text, description=f"{text.capitalize()}. {CODES}")
        if name == "add":
            action.add_argument("file", type=Path, metavar="FILE", help="a public key, NAME.pub")
            action.add_argument("--name", metavar="NAME", help="what it is called here (default: the file's name)")
        if name == "remove":
            action.add_argument("name", metavar="NAME", help="as engine trust list shows it")
        add_trust_options(action)
        _json_option(action)
        action.set_defaults(run=run)


def _passphrase_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="the private key's passphrase: the first line of FILE"
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _passphrase(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        lines = read_small(path, 4096).splitlines()
    except OSError as error:
        raise BundleError(f"{path}: the passphrase cannot be read ({error.strerror})") from error
    if not lines or not lines[0]:
        raise BundleError(f"{path}: holds no passphrase; its first line must be one")
    return lines[0]


def keygen(arguments: argparse.Namespace) -> int:
    """Make a key pair."""
    from engines.trust.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX, make_key_pair

    key = make_key_pair(arguments.out, arguments.name, _passphrase(arguments.passphrase_file))
    private, public = (arguments.out / f"{key.name}{suffix}" for suffix in (PRIVATE_SUFFIX, PUBLIC_SUFFIX))
    if arguments.json:
        print(json.dumps({"private": str(private), "public": str(public), "key_id": key.key_id}))
        return EXIT_OK
    print(f"{private}: the private key. Keep it off every device, and keep a copy safe.")
    print(f"{public}: the public key. On each device: dermascan engine trust add {public.name}")
    print(f"key id {key.key_id}")
    return EXIT_OK


def sign(arguments: argparse.Namespace) -> int:
    """Sign a bundle."""
    from engines.trust.keys import demo_key, key_id_of, read_private_key
    from engines.trust.signing import sign_bundle

    passphrase = _passphrase(arguments.passphrase_file)
    key: Ed25519PrivateKey = demo_key() if arguments.demo else read_private_key(arguments.key, passphrase)
    bundle = read_unsigned_bundle(arguments.bundle)
    path = sign_bundle(bundle.folder, key)
    key_id = key_id_of(key.public_key())
    if arguments.json:
        print(json.dumps({"bundle": bundle.label, "signature": str(path), "key_id": key_id, "demo": arguments.demo}))
        return EXIT_OK
    print(f"{bundle.label}: {len(bundle.manifest.files)} files agree with the manifest, which is now signed: {path}")
    print(f"key id {key_id}" + (" (the demonstration key: it vouches for nothing)" if arguments.demo else ""))
    return EXIT_OK


def _trust_folder(arguments: argparse.Namespace) -> Path:
    folder = trust_from(arguments).folder
    if folder is None:
        raise BundleError(
            "no trust folder is named; give the settings with --config FILE, or the folder with --trust-dir"
        )
    return folder


def trust_list(arguments: argparse.Namespace) -> int:
    """Show the trusted keys, and what in the folder is none."""
    from engines.trust.keys import read_trust_folder

    folder = _trust_folder(arguments)
    found = read_trust_folder(folder)
    demo_accepted = not trust_from(arguments).require_trusted
    if arguments.json:
        keys = [{"name": key.name, "key_id": key.key_id, "demo": key.demo} for key in found.keys]
        print(json.dumps({"folder": str(folder), "keys": keys, "faults": found.faults, "demo_accepted": demo_accepted}))
        return EXIT_OK
    print(f"{folder}: {len(found.keys) or 'no'} key{'s' * (len(found.keys) != 1)}")
    for key in found.keys:
        note = "  THE DEMONSTRATION KEY: everybody has it" if key.demo else ""
        print(f"  {key.name}  {key.key_id}{note}")
    for fault in found.faults:
        print(f"not believed: {fault}", file=sys.stderr)
    print(f"the demonstration key is {'accepted: not for patients' if demo_accepted else 'refused'}")
    return EXIT_OK


def trust_add(arguments: argparse.Namespace) -> int:
    """Believe a key."""
    from engines.trust.keys import add_trusted, read_public_key

    key = read_public_key(arguments.file)
    path = add_trusted(_trust_folder(arguments), replace(key, name=arguments.name or key.name))
    if arguments.json:
        print(json.dumps({"file": str(path), "key_id": key.key_id}))
        return EXIT_OK
    print(f"{path}: bundles signed with this key may run here from now on")
    print(f"key id {key.key_id}: compare it with what its owner tells you by another way")
    return EXIT_OK


def trust_remove(arguments: argparse.Namespace) -> int:
    """Believe a key no longer."""
    from engines.trust.keys import remove_trusted

    folder = _trust_folder(arguments)
    remove_trusted(folder, arguments.name)
    if arguments.json:
        print(json.dumps({"folder": str(folder), "removed": arguments.name}))
        return EXIT_OK
    print(
        f"{arguments.name}: bundles that only this key signed do not start any more; the running one goes on until then"
    )
    return EXIT_OK
