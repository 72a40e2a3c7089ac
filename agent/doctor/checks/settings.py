"""The settings: every fault of ``agent.toml`` with its remedy (F24), and what is allowed and yet not for patients."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator

from agent.doctor.finding import Check, Finding, Kind, Mend, failed, in_two, ok, warning
from agent.doctor.place import Place, octal


def look(place: Place) -> Iterator[Finding]:
    """Each fault is a finding."""
    file = place.config_file
    if place.settings is None:
        for line in place.fault.splitlines():
            sentence, remedy = in_two(line, f"mend {file} (agent.example.toml explains every key)")
            yield failed(sentence, remedy)
        return
    yield ok(f"{file} can be used.")
    yield from _others_may_write(place)
    inference, mqtt = place.settings.inference, place.settings.mqtt
    if not inference.require_trusted:
        yield warning(
            "The demonstration's key is believed, with which anybody can sign a model.",
            f"before patients are seen, set require_trusted = true under [inference] in {file}",
        )
    if inference.ladder[-1] != "cpu":
        yield warning(
            f'The last that may answer is "{inference.ladder[-1]}", which is not always there.',
            f'end [inference] ladder in {file} with "cpu"',
        )
    if place.settings.privacy.field_key_file is None:
        yield warning(
            "What names patients lies unencrypted on this device's disk: in the database, its copies and results/.",
            "before patients are seen, make a key ('Encryption at rest' in operations-data.md), name it as "
            f"field_key_file under [privacy] in {file}, and keep a copy of it in another place",
        )
    if mqtt is not None and mqtt.ca is None and not mqtt.loopback:
        yield warning(
            f"What is sent to {mqtt.host} is not encrypted.",
            f"get the broker's CA file, name it as ca under [mqtt] in {file}, and remove allow_insecure",
        )


def _others_may_write(place: Place) -> Iterator[Finding]:
    for path in (place.config_file, place.config_file.absolute().parent):
        status = path.stat()
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
            yield failed(
                f"Everybody on this machine may change {path} (mode {octal(status)}).",
                f"run: chmod {mode:o} {shlex.quote(str(path))}",
                Mend(Kind.CHMOD, str(path), mode),
            )


CHECK = Check(
    name="settings",
    title="Settings",
    looks_at="agent.toml: every key, and who may change the file",
    why="With a wrong value the agent does not start; with a loose one it does what nobody meant.",
    look=look,
    needs_settings=False,
)
