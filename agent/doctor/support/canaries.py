"""What must never be in a support bundle, as this device has it: patients, names of captures, secrets, people (F30)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.access.files import AccessError
from agent.access.tokens import FOLDER, Tokens
from agent.config import Config
from agent.doctor.checks.secrets import secret_files
from agent.records.errors import StoreError
from agent.records.opening import DATABASE
from agent.records.reading import open_reading
from calibration.shelf.files import ShelfError
from calibration.shelf.reading import FOLDER as SHELF
from calibration.shelf.reading import Shelf
from engines.files import read_small

MOST_FILES: Final = 200_000
"""Of a capture folder, whose names are looked up."""
_LARGEST_SECRET: Final = 1 << 20
_SHORTEST_SECRET: Final = 6
_NOBODYS: Final = frozenset({"sex", "skin_type", "age", "body_site"})
"""Of the patient's fields: with these alone nobody is found, and their values are words that stand everywhere."""
_TABLES: Final = (
    "SELECT metadata, path, NULL, NULL FROM scans",
    "SELECT NULL, NULL, given_by, note FROM verdicts",
)


@dataclass(frozen=True)
class Canaries:
    """What is looked for."""

    secrets: frozenset[str]
    """Found anywhere, in the middle of a word too."""
    words: frozenset[str]
    """Found as words of their own: names and numbers, which may be part of something else."""
    blind: tuple[str, ...] = ()
    """What could not be read, so that it cannot be looked for."""


def collect(config: Config) -> Canaries:
    """Read everything that must stay here."""
    blind: list[str] = []
    secrets = set(_secrets(config, blind))
    words = {*_of_database(config.device.state_dir, blind), *_of_folders(config), *_people(config, blind)}
    ours = {config.device.id, config.device.clinic_id, *(scope.id for scope in config.dermoscopes)}
    return Canaries(frozenset(secrets), frozenset(words - ours), tuple(blind))


def _secrets(config: Config, blind: list[str]) -> Iterator[str]:
    for key, path in secret_files(config).items():
        try:
            data = read_small(path, _LARGEST_SECRET)
        except FileNotFoundError:
            continue
        except OSError as error:
            blind.append(f"{key} ({error.strerror})")
            continue
        yield from (data.hex(), base64.b64encode(data).decode())
        for line in data.decode("utf-8", "replace").splitlines():
            if len(line.strip()) >= _SHORTEST_SECRET and not line.startswith("-----"):
                yield line.strip()


def _of_database(state_dir: Path, blind: list[str]) -> Iterator[str]:
    if not (state_dir / DATABASE).exists():
        return
    try:
        with open_reading(state_dir) as db:
            for query in _TABLES:
                for metadata, path, given_by, note in db.execute(query):
                    yield from _values(json.loads(metadata) if metadata else {})
                    yield from _names(path or "")
                    yield from (text for text in (given_by, note) if text)
    except (StoreError, ValueError) as error:
        blind.append(f"the database ({error})")


def _values(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in _NOBODYS:
                yield from _values(value)
    elif isinstance(content, list):
        for value in content:
            yield from _values(value)
    elif isinstance(content, str):
        yield content


def _names(path: str) -> Iterator[str]:
    """A capture's name with and without its ending: clinics write patients' names and numbers into them."""
    name = path.rpartition("/")[2]
    yield from (name, name.rpartition(".")[0] or name)


def _of_folders(config: Config) -> Iterator[str]:
    for scope in config.dermoscopes:
        try:
            with os.scandir(scope.folder) as entries:
                for number, entry in enumerate(entries):
                    if number >= MOST_FILES:
                        break
                    yield from _names(os.fsencode(entry.name).decode("utf-8", "replace"))
        except OSError:
            continue


def _people(config: Config, blind: list[str]) -> Iterator[str]:
    """Whose tokens there are, who calibrated and who overrode."""
    if config.mqtt is not None and config.mqtt.username:
        yield config.mqtt.username
    try:
        for token in Tokens(config.device.state_dir / FOLDER).list():
            yield from (token.name, token.sha256, token.revoked_by or "")
    except AccessError as error:
        blind.append(f"the page's tokens ({error})")
    shelf = Shelf(config.device.state_dir / SHELF)
    for scope in shelf.dermoscopes():
        try:
            record = shelf.record(scope)
        except ShelfError:
            continue
        for event in record.events:
            yield from (event.operator, event.note or "")
            if event.override is not None:
                yield from (event.override.name, event.override.reason)
