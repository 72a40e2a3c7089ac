"""Doing something to the records by a command: through the running agent, or as their owner where none runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agent import __version__
from agent.config import Config
from agent.records import spool
from agent.records.errors import StoreError
from agent.records.keeping.keeper import Keeper
from agent.records.reading import agent_seems_to_run
from agent.records.sealing import read_seal
from agent.records.space import SpaceGuard
from agent.records.spool import Spool
from agent.records.store import Clocks, Store

PATIENCE_S: Final = 600.0
"""Writing a large database anew takes its time."""


class StillWaiting(StoreError):
    """The running agent has not done it yet, and will."""


def ask(config: Config, order: spool.AnyOrder, trusted: Callable[[], bool], patience_s: float = PATIENCE_S) -> Any:
    """Have an order done by the running agent, or here where none runs; gives the reply.

    Raises:
        StillWaiting: the agent is busy; the order is kept.
        StoreError: it was refused, or the records cannot be used; the text says why.
        ConfigError: the keys cannot be read.
        OSError: the spool cannot be written.
    """
    state_dir = config.device.state_dir
    if not agent_seems_to_run(state_dir):
        with owned(config, trusted) as (store, keeper):
            Spool(store, state_dir, threading.Event(), keeper.doers).take_up()  # what was asked before comes first
            return keeper.doers[order.order](order)
    path = spool.place(state_dir, order)
    give_up = time.monotonic() + patience_s
    while path.exists():
        if time.monotonic() > give_up or not agent_seems_to_run(state_dir):
            raise StillWaiting("the agent has not done it yet, and does as soon as it can: ask again then")
        time.sleep(0.05)
    if (reason := spool.refusal(path)) is not None:
        raise StoreError(reason)
    return spool.reply_to(path)


@contextmanager
def owned(config: Config, trusted: Callable[[], bool]) -> Iterator[tuple[Store, Keeper]]:
    """The records, opened for a command while no agent runs.

    Raises:
        StoreError: an agent runs, or they cannot be used.
        ConfigError: the keys cannot be read.
    """
    seal = read_seal(config.privacy.field_key_file)  # while we may still read them
    state_dir = config.device.state_dir
    become_owner(state_dir)
    store = Store.open(
        state_dir,
        config.device.id,
        config.store.quota_mb,
        clinic_id=config.device.clinic_id,
        software_version=__version__,
        clocks=Clocks(trusted=trusted),
        seal=seal,
    )
    with store:
        keeper = Keeper(store, config, SpaceGuard(state_dir, config.store.quota_mb), trusted, _now)
        for job in keeper.first:
            job()
        yield store, keeper


def become_owner(state_dir: Path) -> None:
    """Go on as the agent's user, where root gives the command: files of root's the agent could not use."""
    if os.geteuid() == 0 and (owner := state_dir.stat()).st_uid != 0:
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def _now() -> datetime:
    return datetime.now(timezone.utc)
