"""Keys, passwords and tokens: there, usable, and readable for nobody but the agent."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.access.tokens import FOLDER, TOKENS
from agent.config import Config, ConfigError
from agent.doctor.finding import Check, Finding, Kind, Mend, failed, in_two, ok, skipped
from agent.doctor.place import Place, octal
from agent.privacy import read_pseudonyms
from agent.records.sealing import read_secrets

CREDENTIALS: Final = "credentials"
"""The folder beside the settings whose files systemd hands over (LoadCredential=)."""

_READERS: Final[dict[str, Callable[[Path], object]]] = {
    "privacy.pseudonym_key_file": read_pseudonyms,
    "privacy.field_key_file": read_secrets,
}
"""Who says whether a key can be used."""


def secret_files(config: Config) -> dict[str, Path]:
    """Every file of the settings that holds a secret, by its key."""
    mqtt, cloud, api = config.mqtt, config.cloud, config.api
    named = {
        "mqtt.key": mqtt.key if mqtt else None,
        "mqtt.password_file": mqtt.password_file if mqtt else None,
        "cloud.key": cloud.key if cloud else None,
        "cloud.token_file": cloud.token_file if cloud else None,
        "api.key": api.key if api else None,
    }
    # Every key of [privacy] names a file with a key in it, those of later versions too.
    private = {f"privacy.{key}": value for key, value in config.privacy if isinstance(value, Path)}
    return {key: path for key, path in (*named.items(), *private.items()) if path is not None}


def look(place: Place) -> Iterator[Finding]:
    """Each file by its mode and owner; what is in it is never told."""
    files = secret_files(place.config)
    tokens = place.state_dir / FOLDER / TOKENS
    if os.path.lexists(tokens):
        files["the page's tokens"] = tokens
    if not files:
        yield skipped("The settings name no keys, passwords or tokens.")
        return
    found = [finding for key, path in files.items() for finding in _file(place, key, path)]
    yield from found or [ok(f"{len(files)} files with secrets are closed to everybody else.")]


def _file(place: Place, key: str, path: Path) -> Iterator[Finding]:
    quoted = shlex.quote(str(path))
    if path.is_relative_to("/run/credentials") and not path.exists():
        return  # systemd shows it to the service alone, and only while that runs
    try:
        status = path.stat()
    except FileNotFoundError:
        remedy = f"put it there (owner {place.user.name}, mode 600), or take the key out of the settings"
        yield failed(f"{path} ({key}) is missing.", remedy)
        return
    except PermissionError:
        yield skipped(f"{path} ({key}) cannot be looked at by this user. Run it as root (sudo).")
        return
    if not stat.S_ISREG(status.st_mode):
        yield failed(f"{path} ({key}) is no plain file.", "put a plain file in its place")
        return
    keep = 0o600 if status.st_uid == place.user.uid else 0o640
    if status.st_mode & stat.S_IRWXO or (status.st_mode & stat.S_IRWXG and not _ours(place, status, keep)):
        mode = stat.S_IMODE(status.st_mode) & keep
        yield failed(
            f"Others may read {path} ({key}): its mode is {octal(status)}.",
            f"run: sudo chmod {mode:o} {quoted}; if it was like this for long, replace what is in it",
            Mend(Kind.CHMOD, str(path.resolve()), mode),
        )
    handed_over = path.parent.name == CREDENTIALS and status.st_uid == 0  # systemd reads it for the agent
    if not handed_over and not place.user.may(status, 0o4):
        remedy = f"run: sudo chown {place.user.name} {quoted}"
        yield failed(f"The agent's user ({place.user.name}) may not read {path} ({key}).", remedy)
    yield from _above(path, key)
    yield from _content(key, path, status)


def _ours(place: Place, status: os.stat_result, keep: int) -> bool:
    """Whether the group is one of the agent's, by which it reads a file of root's."""
    return keep == 0o640 and status.st_gid in place.user.groups and not status.st_mode & (stat.S_IWGRP | stat.S_IXGRP)


def _above(path: Path, key: str) -> Iterator[Finding]:
    status = path.parent.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
        yield failed(
            f"Everybody on this machine may exchange {path} ({key}): {path.parent} is open to all.",
            f"run: sudo chmod {mode:o} {shlex.quote(str(path.parent))}",
            Mend(Kind.CHMOD, str(path.parent.resolve()), mode),
        )


def _content(key: str, path: Path, status: os.stat_result) -> Iterator[Finding]:
    if status.st_size == 0:
        yield failed(f"{path} ({key}) is empty.", "put the key, the password or the token into it")
    elif key in _READERS and not status.st_mode & stat.S_IRWXO and os.access(path, os.R_OK):
        try:
            _READERS[key](path)
        except ConfigError as error:
            yield failed(*in_two(str(error), "give the clinic's key back from its copy"))


CHECK = Check(
    name="secrets",
    title="Keys and tokens",
    looks_at="every key, password and token file of the settings, and the page's tokens: owner, mode, folder",
    why="Who can read such a file can pass for this device, or find out which patient is behind a pseudonym.",
    look=look,
)
