"""``dermascan rotate-keys``: another key for patient fields, without stopping the agent for longer than a restart."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records.errors import StoreError

if TYPE_CHECKING:
    from agent.config import Config


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan rotate-keys``."""
    parser = subparsers.add_parser(
        "rotate-keys",
        help="make a new key for patient fields",
        description="Puts a new key before the others in [privacy] field_key_file. Restart the agent then: it seals "
        "what it writes with the new key and, while it works, all that is there. The old keys stay in the file, since "
        "backups need them. --forget-old removes those that nothing in the database is sealed with any more: patient "
        "fields in older backups can be read no more then. --lost ID: the key of this id is lost for good, and the "
        "agent may start without it; what it sealed is lost, too. Keep a copy of the file in another place.",
        epilog=f"exit status: {EXIT_OK} done; {EXIT_FAILED} it could not be done; 78 wrong configuration",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
    )
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="the key file, where [privacy] names the copy that a service is handed",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--forget-old", action="store_true", help="remove keys that are no longer needed")
    which.add_argument("--lost", metavar="ID", help="go on without this key")
    parser.add_argument("--json", action="store_true", help="one JSON object that says which keys there are")
    parser.set_defaults(run=rotate_keys)


def rotate_keys(arguments: argparse.Namespace) -> int:
    """Change the keys; returns the exit code."""
    from agent.config import ConfigError, load_config

    config = load_config(arguments.config)
    path: Path | None = arguments.file or config.privacy.field_key_file
    if path is None:
        raise ConfigError(f"{arguments.config}: privacy.field_key_file: is missing; agent.example.toml explains it")
    try:
        if arguments.lost is not None:
            told = _give_up(config, path, arguments.lost)
        elif arguments.forget_old:
            told = _forget_old(config, path)
        else:
            told = _add(path)
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(told) if arguments.json else told["sentence"])
    return EXIT_OK


def _add(path: Path) -> dict[str, Any]:
    from agent.records.sealing import KEY_BYTES, Seal, read_secrets

    secrets = [os.urandom(KEY_BYTES), *read_secrets(path)]
    _write(path, secrets)
    seal = Seal(secrets)
    sentence = f"key {seal.key_id} seals from the agent's next start on: restart it, and copy {path} to another place"
    return {"key": seal.key_id, "keys": sorted(seal.key_ids), "sentence": sentence}


def _forget_old(config: Config, path: Path) -> dict[str, Any]:
    from agent.records.reading import open_reading
    from agent.records.sealed_rows import keys_in_use
    from agent.records.sealing import Seal, read_secrets

    secrets = read_secrets(path)
    with open_reading(config.device.state_dir) as db:
        used = keys_in_use(db)
    newest = Seal(secrets[:1]).key_id
    if used - {newest}:
        raise StoreError(
            f"{path}: older keys are still in use: restart the agent and let it run until its log says that all is "
            "sealed with the newest key"
        )
    _write(path, secrets[:1])
    sentence = f"{len(secrets) - 1} older keys removed: patient fields in backups of their time can be read no more"
    return {"key": newest, "keys": [newest], "sentence": sentence}


def _give_up(config: Config, path: Path, key_id: str) -> dict[str, Any]:
    """Note a key as lost, in a database that no agent has open."""
    from agent.records import giving_up
    from agent.records.audit import SHELL, Actor, AuditAction, append, entry
    from agent.records.keeping.owning import become_owner
    from agent.records.opening import StateLock, connect
    from agent.records.replacing import DATABASE
    from agent.records.sealed_rows import LOST, keys_in_use
    from agent.records.sealing import Seal, read_secrets

    have = Seal(read_secrets(path)).key_ids
    who = getpass.getuser()
    become_owner(config.device.state_dir)
    lock = StateLock.take(config.device.state_dir)
    try:
        db = connect(config.device.state_dir / DATABASE, config.store.quota_mb)
        try:
            missing = sorted(keys_in_use(db) - have)
            if key_id not in missing:
                raise StoreError(f"key {key_id} is none that is missing; missing: {', '.join(missing) or 'none'}")
            at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            db.execute("BEGIN IMMEDIATE")
            giving_up.note(db, f"{LOST}{key_id}", state=True, at=at)
            detail = {"lost_key": key_id}
            append(db, entry(Actor(who, SHELL), AuditAction.KEY_CHANGE, None, detail, at=at, clock_trusted=False))
            db.execute("COMMIT")
        finally:
            db.close()
    finally:
        lock.release()
    return {"lost": key_id, "sentence": f"key {key_id} is given up: what it sealed is shown as absent from now on"}


def _write(path: Path, secrets: list[bytes]) -> None:
    """Write a key file, whole, with the owner and mode that it has."""
    from agent.records.results import sync_folder

    status = path.stat()
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    lines = ["# keys of patient fields: the first one seals, all of them open; never remove one that a backup needs"]
    lines += [secret.hex() for secret in secrets]
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fchmod(handle, status.st_mode & 0o770)
            if os.geteuid() == 0:
                os.fchown(handle, status.st_uid, status.st_gid)
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
