"""Brings into the audit what commands did without the agent: colour profiles and models that were put into use."""

from __future__ import annotations

import logging
from datetime import timezone
from pathlib import Path
from typing import Any, Final

from agent.records.audit import AGENT, SHELL, AuditAction
from agent.records.checkpoint import Rarely
from agent.records.store import Store, StoreClosed, StoreError
from calibration.shelf.files import ShelfError
from calibration.shelf.reading import Shelf
from calibration.shelf.record import RECORD_NAME, Event, What
from engines.backend import BundleError
from engines.installed.activation import Activation, Failure
from engines.installed.ledger import Ledger

log = logging.getLogger(__name__)

PUT_INTO_USE: Final = (What.ACTIVATED, What.ROLLED_BACK)
IN_USE: Final = "model:"
"""How the references of rows begin that say which model is in use."""


class AuditWatch:
    """Compares the shelf of profiles and the ledger of models with the audit, and adds what it does not have yet.

    What was done is audited once, however often it is looked at and wherever a crash falls: each row has a reference
    made of what it is of. A model is compared with the one that the audit last named.
    """

    def __init__(
        self,
        store: Store,
        shelf_folder: Path,
        models_folder: Path | None,
        fixed: tuple[str, str] | None = None,
    ) -> None:
        """Watch, for the store.

        Args:
            store: which keeps the audit.
            shelf_folder: ``state_dir/calibration``; it need not exist.
            models_folder: of the installed bundles; None where the settings name one bundle.
            fixed: that bundle's ``name/version`` and its model's SHA-256.
        """
        self._store, self._shelf, self._fixed = store, Shelf(shelf_folder), fixed
        self._ledger = None if models_folder is None else Ledger(models_folder)
        self._seen: dict[str, object] = {}
        self._rarely = Rarely(log, 300.0)

    def look(self) -> None:
        """Add what is new. Costs a few calls of stat where nothing is; what cannot be done now is done next time."""
        try:
            for dermoscope_id in self._shelf.dermoscopes():
                self._look_at_profiles(dermoscope_id)
            self._look_at_models()
        except StoreClosed:
            return
        except (StoreError, OSError) as error:
            self._rarely.warning("what was done cannot be audited yet: %s", error)

    def _look_at_profiles(self, dermoscope_id: str) -> None:
        path = self._shelf.place(dermoscope_id) / RECORD_NAME
        stamp = _stamp(path)  # before reading: a change while reading is seen at the next look
        if stamp is None or self._seen.get(dermoscope_id) == stamp:
            return
        try:
            events = self._shelf.record(dermoscope_id).events
        except ShelfError as error:
            self._rarely.warning("the calibrations of %s cannot be audited: %s", dermoscope_id, error)
            return
        for kept in [self._audit(dermoscope_id, event) for event in events if event.what in PUT_INTO_USE]:
            kept.result()
        self._seen[dermoscope_id] = stamp

    def _audit(self, dermoscope_id: str, event: Event) -> Any:
        detail: dict[str, Any] = {
            "what": event.what.value,
            "dermoscope_id": dermoscope_id,
            "operator": event.operator,
            "verification_id": event.verification_id,
        }
        if event.override is not None:
            detail["overridden_by"] = event.override.name  # why, in his own words, stays in the record (F30)
        at = event.at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._store.audit(
            AuditAction.CALIBRATION if event.override is None else AuditAction.OVERRIDE,
            event.operator if event.override is None else event.override.name,
            SHELL,
            event.profile_id,
            detail,
            at=at,
            reference=f"calibration:{dermoscope_id}:{event.sequence}:{at}:{event.profile_id}",
        )

    def _look_at_models(self) -> None:
        if self._ledger is None:
            if self._fixed is not None and self._seen.get("") != self._fixed:
                bundle, sha256 = self._fixed
                self._note_model(bundle, {"outcome": "named in the settings", "model_sha256": sha256})
                self._seen[""] = self._fixed
            return
        stamp = self._ledger.stamp()
        if stamp is None or self._seen.get("") == stamp:
            return
        try:
            state = self._ledger.read()
        except BundleError as error:
            self._rarely.warning("changes of the model cannot be audited: %s", error)
            return
        for failure in state.failures:
            self._note_failure(failure)
        if state.committed is not None:
            installed = state.committed.installed
            self._note_model(installed.bundle, _committed(state))
        self._seen[""] = stamp

    def _note_model(self, bundle: str, detail: dict[str, Any]) -> None:
        last = self._store.last_audited(IN_USE)
        if last is not None and last.says(bundle, detail):
            return
        # After one row, one other can follow: a second look cannot add it again, a return to an older model can.
        reference = f"{IN_USE}{0 if last is None else last.seq}"
        action, (who, role) = AuditAction.MODEL_CHANGE, (AGENT.who, AGENT.role)
        self._store.audit(action, who, role, bundle, detail, reference=reference).result()

    def _note_failure(self, failure: Failure) -> None:
        installed = failure.installed
        self._store.audit(
            AuditAction.MODEL_CHANGE,
            AGENT.who,
            AGENT.role,
            installed.bundle,
            {
                "outcome": "given up",
                "manifest_sha256": installed.manifest_sha256,
                "stage": failure.stage.value,
                "reason": failure.reason[:300],
                "given_up_at": failure.at,
            },
            reference=f"given-up:{installed.bundle}:{installed.manifest_sha256}:{failure.at}",
        ).result()


def _committed(state: Activation) -> dict[str, Any]:
    committed = state.committed
    assert committed is not None  # noqa: S101 - the caller looked
    return {
        "outcome": "committed",
        "manifest_sha256": committed.installed.manifest_sha256,
        "verified_by": committed.verified_by[:300],
        "committed_at": committed.at,
    }


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
