"""What must never be in a support bundle, as this device has it: patients, names of captures, secrets, people (F30)."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.access.files import AccessError
from agent.access.tokens import FOLDER, Tokens
from agent.config import Config, ConfigError
from agent.doctor.checks.secrets import secret_files
from agent.records.errors import StoreError
from agent.records.opening import DATABASE
from agent.records.reading import open_reading
from agent.records.sealed_rows import lost_keys
from agent.records.sealing import METADATA, NOTE, SEALED, Seal, read_seal
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
_PART: Final = re.compile(r"[^\W_]{4,}")
_SHORTEST_NUMBER: Final = 5
"""Shorter ones, years among them, stand in every line of a log."""
_USUAL: Final = re.compile(
    "back|left|right|upper|lower|front|side|face|hand|foot|neck|chest|thigh|shoulder|image|photo|picture|scan|scope|"
    "lesion|capture|derm|dermoscope|dermoscopy|melanoma|nevus|naevus|mole|skin|copy|edited|demo|test|case|patient",
    re.IGNORECASE,
)
"""Words in captures' names by which nobody is found."""


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
    words = {*_of_database(config, blind), *_of_folders(config), *_people(config, blind)}
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


def _of_database(config: Config, blind: list[str]) -> Iterator[str]:
    """Patients, names of captures, and who gave verdicts; what is sealed is opened, or the bundle is not made."""
    state_dir = config.device.state_dir
    if not (state_dir / DATABASE).exists():
        return
    try:
        seal = read_seal(config.privacy.field_key_file)
        with open_reading(state_dir) as db:
            lost = lost_keys(db)
            for scan_id, metadata, path in db.execute("SELECT scan_id, metadata, path FROM main.scans"):
                yield from _names(path)
                yield from _values(json.loads(_opened(seal, lost, metadata, scan_id, METADATA) or "{}"))
            for verdict_id, given_by, note in db.execute("SELECT verdict_id, given_by, note FROM main.verdicts"):
                yield from (text for text in (given_by, _opened(seal, lost, note, verdict_id, NOTE)) if text)
    except (StoreError, ConfigError, ValueError) as error:
        blind.append(f"the database ({error})")


def _opened(seal: Seal, lost: frozenset[str], text: str | None, row: str, field: str) -> str | None:
    """Raises ValueError where a text cannot be opened whose key was not given up."""
    found = SEALED.fullmatch(text or "")
    if text is None or (found is not None and found[1] in lost):
        return None
    opened = seal.open(text, row, field)
    if opened is None:
        raise ValueError("patient fields cannot be opened with the key in privacy.field_key_file")
    return opened


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
    """A capture's name, without its ending, and its parts: clinics write patients' names and numbers into them."""
    name = path.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    yield from (name, stem)
    for part in _PART.findall(stem):
        usual = _USUAL.fullmatch(part) or (part.isdecimal() and len(part) < _SHORTEST_NUMBER)
        if not usual:
            yield part


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
