"""New settings for the running agent, at SIGHUP: read and checked whole, then taken over where that can be done.

A file that is wrong changes nothing. What cannot change while the agent runs is named and waits for the next start. No
capture is lost either way: what is not taken in yet lies in its folder, and what is in hand goes on to its end.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.config import Config, ConfigError, load_config
from agent.fallback import CLOUD, cloud_settings, pseudonyms
from agent.records.errors import StoreError
from agent.records.keeping.keeper import Keeper
from agent.records.space import SpaceGuard
from agent.records.store import Store
from agent.watching import Watches
from engines.backend import BundleError
from engines.bundle import Bundle
from engines.cloud.rung import open_rung as open_cloud
from engines.ladder import Ladder

log = logging.getLogger(__name__)

RELOAD_SIGNAL: Final = signal.SIGHUP
"""Asks the agent to read its settings again; ``ExecReload=`` of the service sends it."""
LIVE: Final = (
    "dermoscopes",
    "store.quota_mb",
    "store.retention_days",
    "inference.deadline_s",
    "calibration.require",
    "mqtt",
    "cloud",
)
"""What changes while the agent runs. ``[mqtt]`` and ``[cloud]`` change as wholes."""


@dataclass(frozen=True)
class Parts:
    """What of the agent takes settings over."""

    watches: Watches
    keeper: Keeper
    store: Store
    space: SpaceGuard
    serving: Callable[[], tuple[Bundle, Ladder]]
    use_setting: Callable[[Config], None]
    """Analyse by these settings from now on."""
    use_mqtt: Callable[[Config], None]
    """End the connection to the broker, and begin the one of these settings."""
    use_config: Callable[[Config], None]
    """Have this as the settings from now on."""


@dataclass(frozen=True)
class Reloaded:
    """What became of it."""

    changed: tuple[str, ...]
    at_next_start: tuple[str, ...]


def differences(one: Config, other: Config) -> tuple[str, ...]:
    """The keys in which two configurations differ: ``section.key``, or what is given as a whole."""
    found: list[str] = []
    for name in type(one).model_fields:
        left, right = getattr(one, name), getattr(other, name)
        if left == right:
            continue
        if name in LIVE or left is None or right is None:
            found.append(name)
        else:
            fields = type(left).model_fields
            found += [f"{name}.{key}" for key in fields if getattr(left, key) != getattr(right, key)]
    return tuple(found)


def merged(running: Config, new: Config) -> Config:
    """The running settings with all of the new ones that can be taken over now."""
    update: dict[str, Any] = {name: getattr(new, name) for name in LIVE if "." not in name}
    for name in (live for live in LIVE if "." in live):
        section, _, key = name.partition(".")
        there = update.get(section, getattr(running, section))
        update[section] = there.model_copy(update={key: getattr(getattr(new, section), key)})
    if CLOUD in running.inference.ladder and new.cloud is None:
        update["cloud"] = running.cloud  # a rung that is there needs it: both go at the next start
    return running.model_copy(update=update)


def take_over(running: Config, new: Config, parts: Parts) -> Reloaded:
    """Take new settings over.

    Raises:
        ConfigError: they cannot be used; nothing was changed.
        BundleError: likewise.
    """
    pseudonyms(new)  # what the start checks beside the file itself
    after = merged(running, new)
    changed = differences(running, after)
    if "cloud" in changed and CLOUD in running.inference.ladder and (settings := cloud_settings(after)) is not None:
        bundle, ladder = parts.serving()
        ladder.exchange(CLOUD, open_cloud(bundle, settings))  # first: it is the one that may refuse
    parts.use_config(after)
    if "store.quota_mb" in changed:
        parts.space.use_quota(after.store.quota_mb)
        parts.store.use_quota(after.store.quota_mb).result()
    parts.keeper.retention.retention_days = after.store.retention_days
    if {"inference.deadline_s", "calibration.require"} & set(changed):
        parts.use_setting(after)
    if "mqtt" in changed:
        parts.use_mqtt(after)
    if "dermoscopes" in changed:
        parts.watches.use(after.dermoscopes)
    return Reloaded(changed, differences(after, new))


class Reloads:
    """Takes settings over each time that it is asked, on a thread of its own. Start once; stop once."""

    def __init__(
        self, path: Path, config: Config, parts: Parts, before: Callable[[Config], object] = lambda _: None
    ) -> None:
        """Take settings over for an agent.

        Args:
            path: of the file.
            config: the settings that the agent runs with, from there.
            parts: of the agent.
            before: told of settings that can be read, before they are taken over.
        """
        self._path, self._config, self._parts, self._before = path, config, parts, before
        self._asked, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def ask(self, *_: object) -> None:
        """Read the settings again soon; may be called by a signal."""
        self._asked.set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping = True
        self._asked.set()
        self._thread.join()

    def reload(self) -> Reloaded | None:
        """Read the settings again now; None where they are wrong and the old ones go on."""
        try:
            new = load_config(self._path)
            self._before(merged(self._config, new))
            done = take_over(self._config, new, self._parts)
        except (ConfigError, BundleError, StoreError) as error:
            log.error("the settings are as they were, the new ones cannot be used: %s", error)  # noqa: TRY400
            return None
        self._config = merged(self._config, new)
        log.info("the settings were read again; changed: %s", ", ".join(done.changed) or "nothing")
        for key in done.at_next_start:
            log.warning("%s changes at the next start, not before", key)
        return done

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._stopping:
                return
            try:
                self.reload()
            except Exception:
                log.exception("the settings are as they were, reading them broke off")
