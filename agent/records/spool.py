"""The spool: how what a person says at a shell reaches the agent, running or not: one small file for each thing said.

A file is there whole or not at all, and is removed only once what it asks for is committed. Whatever happens in
between, it is taken up again, and the store knows that it has been: no verdict is lost and none is counted twice
(F11, F19). What cannot be done is moved to ``refused/`` with the reason beside it. Files hold names and notes, and so
stay on the device.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.records import orders
from agent.records.audit import SHELL, AuditAction
from agent.records.checkpoint import Rarely
from agent.records.errors import StoreClosed, StoreError, UnknownScan, VerdictRefused
from agent.records.orders import AnyOrder, AuditOrder, EraseOrder, RetentionOrder, RetryOrder, VerdictOrder, new_id
from agent.records.results import FOLDER_MODE, TEMPORARY, write_atomically
from agent.records.sealed_rows import seal_of
from agent.records.sealing import Seal
from agent.records.store import Store

__all__ = [
    "AnyOrder",
    "AuditOrder",
    "EraseOrder",
    "RetentionOrder",
    "RetryOrder",
    "Spool",
    "VerdictOrder",
    "new_id",
    "place",
    "refusal",
    "reply_to",
    "waiting",
]

log = logging.getLogger(__name__)

SPOOL: Final = "spool"
"""Under ``state_dir``."""
REFUSED: Final = "refused"
DONE: Final = "done"
"""Both under the spool: what cannot be done, and what came of what was done, for who asked."""
LARGEST_BYTES: Final = 64 * 1024
LEFTOVER_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5
"""A look at an empty folder costs two system calls, and works on every file system, which inotify does not."""


def place(state_dir: Path, order: AnyOrder) -> Path:
    """Put an order into the spool; it is durable when this returns. The name keeps the order of asking.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = _folder(state_dir)
    number = time.time_ns()
    for there in _orders(folder):  # whatever the clock does, later is later (F16)
        if (earlier := there.name.partition("-")[0]).isdecimal():
            number = max(number, int(earlier) + 1)
    path = folder / f"{number:020d}-{uuid.uuid4()}.json"
    write_atomically(path, orders.written(order, seal_of(state_dir)))
    _give_to_owner(path, state_dir)
    return path


def waiting(state_dir: Path) -> tuple[int, int]:
    """How many orders wait to be taken up, and how many were refused."""
    folder = state_dir / SPOOL
    return len(_orders(folder)), len(_orders(folder / REFUSED))


def refusal(path: Path) -> str | None:
    """Why the order that was placed at ``path`` was refused; None where it was not."""
    try:
        return _reason_file(path).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def reply_to(path: Path) -> dict[str, Any] | None:
    """What came of the order that was placed at ``path``; None where nothing was said. It is said once."""
    reply = path.parent / DONE / path.name
    try:
        said: dict[str, Any] = json.loads(reply.read_bytes())
    except FileNotFoundError:
        return None
    reply.unlink(missing_ok=True)
    return said


class Spool:
    """The running agent's end: takes up what lies in the spool, and looks for more until it is told to stop."""

    def __init__(
        self,
        store: Store,
        state_dir: Path,
        stop: threading.Event,
        doers: Mapping[str, Callable[[Any], dict[str, Any]]] | None = None,
    ) -> None:
        """``doers``: who does orders that ask for more than the store, by their names; what they give is the reply."""
        self._store, self._stop, self._doers = store, stop, doers or {}
        self._state_dir = state_dir
        self._rarely = Rarely(log, 300.0)
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, once ``stop`` is set."""
        self._thread.join()

    def take_up(self) -> int:
        """Do what lies in the spool, in the order of asking; returns how much of it is done.

        What the store has no room for stays, with all that came after it.
        """
        done = 0
        for path in sorted(_orders(self._state_dir / SPOOL)):
            if self._stop.is_set():
                break
            try:
                reply = self._do(_read(path, self._store.seal))
                if reply is not None:
                    _reply(path, reply)
            except (UnknownScan, VerdictRefused, ValueError) as error:
                _refuse(path, str(error))
            except FileNotFoundError:
                continue  # taken back by who placed it
            except PermissionError as error:
                self._rarely.warning("%s: give it to the agent's user", error)
            else:
                path.unlink(missing_ok=True)  # if the power goes here it is done once more, which changes nothing
                done += 1
        return done

    def _do(self, order: AnyOrder) -> dict[str, Any] | None:
        if isinstance(order, RetentionOrder | EraseOrder):
            if order.order not in self._doers:
                raise ValueError(f"this agent does no {order.order}")
            return self._doers[order.order](order)
        if isinstance(order, RetryOrder):
            count = self._store.outbox_retry(order.event_id).result()
            log.info("%d events that had been given up are to be sent again", count)
            return None
        if isinstance(order, AuditOrder):
            action, reference = AuditAction(order.action), f"order:{order.id}"
            kept = self._store.audit(
                action, order.who, SHELL, order.subject, order.detail, at=order.at, reference=reference
            )
            kept.result()
            return None
        self._store.verdict(
            order.scan_id,
            order.diagnosis,
            order.source,
            order.by,
            order.note,
            verdict_id=order.id,
            given_at=order.given_at,
        ).result()
        log.info("scan %s: verdict %s kept", order.scan_id, order.id)
        return None

    def _run(self) -> None:
        _sweep(self._state_dir / SPOOL)
        while True:
            try:
                self.take_up()
            except StoreClosed:
                return
            except (StoreError, OSError) as error:
                self._rarely.warning("what lies in the spool has to wait: %s", error)
            except Exception as error:  # noqa: BLE001 - whatever it is, verdicts must be taken up after it
                self._rarely.error("taking up the spool broke off unexpectedly, and goes on: %r", error)
            if self._stop.wait(LOOK_EVERY_S):
                return


def _orders(folder: Path) -> list[Path]:
    try:
        return [
            Path(entry)
            for entry in os.scandir(folder)
            if entry.name.endswith(".json") and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
        ]
    except FileNotFoundError:
        return []


def _sweep(folder: Path) -> None:
    """Remove what a crash left of files that were never whole, and replies that nobody fetched."""
    for leftover in (*folder.glob(f".*{TEMPORARY}"), *(folder / DONE).glob("*")):
        try:
            if time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                leftover.unlink()
        except OSError as error:
            log.warning("%s: %s", leftover, error.strerror)


def _read(path: Path, seal: Seal) -> AnyOrder:
    """Read an order; raises ValueError with a sentence where it is none."""
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"it has more than {LARGEST_BYTES} bytes")
    return orders.read(content, seal)


def _reply(path: Path, reply: dict[str, Any]) -> None:
    done = path.parent / DONE
    done.mkdir(mode=FOLDER_MODE, exist_ok=True)
    write_atomically(done / path.name, json.dumps(reply).encode())


def _refuse(path: Path, reason: str) -> None:
    refused = path.parent / REFUSED
    refused.mkdir(mode=FOLDER_MODE, exist_ok=True)
    write_atomically(_reason_file(path), f"{reason}\n".encode())
    path.rename(refused / path.name)
    log.error("%s cannot be done (%s): moved to %s", path.name, reason, refused)


def _reason_file(path: Path) -> Path:
    return path.parent / REFUSED / f"{path.name}.reason"


def _folder(state_dir: Path) -> Path:
    folder = state_dir / SPOOL
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        _give_to_owner(folder, state_dir)
    return folder


def _give_to_owner(path: Path, state_dir: Path) -> None:
    """What root writes belongs to the agent's user, or the agent could not read it."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
