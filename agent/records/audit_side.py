"""What the store does for the audit: one way to add to it, and its head."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from agent.records import audit
from agent.records.audit import Actor, AuditAction, AuditRow
from agent.records.writer import Writer


class AuditSide:
    """The part of the store that keeps who did what; see `agent.records.store.Store` for its rules."""

    _writer: Writer

    def audit(
        self,
        action: AuditAction,
        who: str,
        role: str,
        subject: str | None,
        detail: Mapping[str, Any],
        *,
        at: str | None = None,
        reference: str | None = None,
    ) -> Future[int]:
        """Add a row to the audit; gives its number. A verdict's is added with the verdict, in its transaction.

        Args:
            action: what was done.
            who: who did it: a token's name, or the user at the shell.
            role: in what role: a token's, ``shell`` or ``device``.
            subject: to what: the id of a scan, token, profile or bundle.
            detail: strings, whole numbers, booleans, None, lists and objects; nothing of the patient (F30).
            at: when, where that was not now (RFC 3339, UTC, milliseconds).
            reference: what the row is of, where it may be told twice: the second time nothing is added.

        Raises:
            ValueError: at once, where the detail may not be kept.
        """
        now = self._time()
        at = at or now
        trusted = self._clock_trusted() and at <= now
        row = audit.entry(Actor(who, role), action, subject, detail, at=at, clock_trusted=trusted, reference=reference)
        return self._writer.submit(lambda db: audit.append(db, row))

    def audit_head(self) -> tuple[int, str]:
        """The last row's number and hash; 0 and zeros where there is none."""
        return self._writer.submit(audit.head, writes=False).result()

    def last_audited(self, prefix: str) -> AuditRow | None:
        """The last row whose reference begins so; None where there is none."""
        return self._writer.submit(partial(audit.last_of, prefix=prefix), writes=False).result()

    def _time(self) -> str:
        raise NotImplementedError

    def _clock_trusted(self) -> bool:
        raise NotImplementedError
