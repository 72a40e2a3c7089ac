"""The keeper: all that looks after the records while the agent runs, in one hand (or for one command, without it)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final

from agent.config import Config
from agent.records import queries
from agent.records.checkpoint import Rarely
from agent.records.errors import StoreError
from agent.records.keeping import erasing
from agent.records.keeping.files import remove_listed, write_again
from agent.records.keeping.integrity import Integrity
from agent.records.keeping.retention import Report, Retention
from agent.records.orders import EraseOrder, RetentionOrder
from agent.records.sealed_rows import point_to
from agent.records.sidecars import read_kept_sidecar
from agent.records.space import UPLOADS_DIR, SpaceGuard
from agent.records.store import Store

log = logging.getLogger(__name__)

SEAL_TOGETHER: Final = 50
"""Rows of one transaction: captures wait no longer than it takes."""
SEAL_AT_ONCE: Final = 20
"""Transactions of one round."""


class Keeper:
    """Looks after the records of one store. Its jobs are done one after the other, on the thread of the rounds."""

    def __init__(
        self,
        store: Store,
        config: Config,
        space: SpaceGuard,
        trusted: Callable[[], bool],
        wall: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._store, self._space = store, space
        self._state_dir = config.device.state_dir
        self._export_folder = None if config.export is None else config.export.folder
        self._rarely = Rarely(log, 3600.0)
        self._sealed_all = False
        self._clear = 0
        point_to(self._state_dir, config.privacy.field_key_file)
        self.retention = Retention(
            store, self._state_dir, space, config.store.retention_days, wall=wall, trusted=trusted
        )
        self.integrity = Integrity(store)

    @property
    def first(self) -> Sequence[Callable[[], object]]:
        """What a crash left undone; before result files are written again (`agent.publish`)."""
        return (self._finish_removing,)

    @property
    def jobs(self) -> Sequence[Callable[[], object]]:
        """For the agent's rounds."""
        return (self._finish_removing, self.seal_some, self.retention.look, self.integrity.look, self._finish_scrubbing)

    @property
    def doers(self) -> Mapping[str, Callable[[Any], dict[str, Any]]]:
        """Who does what commands ask for through the spool."""
        return {"retention": self._retention, "erase": self._erase}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look after."""
        return () if self.integrity.damage is None else (f"The records: {self.integrity.damage}.",)

    def seal_some(self) -> None:
        """Seal what was written before there was a key, or with an older one, and whose uploads are answered."""
        if self._store.seal.key_id is None:
            return
        try:
            self._tidy_uploads()
            done = 0
            for _ in range(SEAL_AT_ONCE):
                sealed = self._store.seal_some(SEAL_TOGETHER).result()
                self._space.wrote(-write_again(self._store, sealed.rewrite))
                done += sealed.done
                self._clear += sealed.clear
                if not sealed.more:
                    break
            if sealed.more:
                return
            if done and not self._sealed_all:
                log.info("patient fields: all that was written without the newest key is sealed with it now")
            if self._clear:  # what was there in the clear may still lie between the rows
                erasing.scrub(self._store)
            self._sealed_all, self._clear = True, 0
        except (StoreError, OSError) as error:
            self._rarely.warning("patient fields cannot be sealed now: %s", error)

    def erase(self, patient_id: str, who: str) -> erasing.Erased:
        """Forget a patient. Raises StoreError and OSError."""
        return erasing.erase(self._store, self._state_dir, self._export_folder, patient_id, who)

    def _retention(self, order: RetentionOrder) -> dict[str, Any]:  # noqa: ARG002 - a doer takes its order
        return described(self.retention.run())

    def _erase(self, order: EraseOrder) -> dict[str, Any]:
        return asdict(self.erase(order.patient_id, order.who))

    def _finish_removing(self) -> None:
        try:
            self._space.wrote(-remove_listed(self._store, self._state_dir))
        except (StoreError, OSError) as error:
            self._rarely.warning("files that were given up cannot be removed yet: %s", error)

    def _finish_scrubbing(self) -> None:
        with suppress(StoreError):
            erasing.finish_scrubbing(self._store)

    def _tidy_uploads(self) -> None:
        """Sidecars of uploads that are answered go: the database holds what they say, sealed."""
        for folder in (self._state_dir / UPLOADS_DIR).glob("*"):
            sidecars = list(folder.glob("*.json")) if folder.is_dir() else []
            if not sidecars:
                continue
            known = self._store.look(partial(queries.finished_in, dermoscope_id=folder.name))
            for sidecar in sidecars:
                picture = next((path for path in folder.glob(f"{sidecar.stem}.*") if path.suffix != ".json"), None)
                if picture is None or (scan_id := known.get(bytes(picture))) is None:
                    continue
                said = asdict(read_kept_sidecar(picture, self._store.seal))
                fields = {name: str(value) for name, value in said.items() if name != "warning" and value is not None}
                self._store.add_metadata(scan_id, fields).result()
                sidecar.unlink(missing_ok=True)


def described(report: Report) -> dict[str, Any]:
    """A report as JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    return plain
