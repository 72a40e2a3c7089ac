"""What the sync asks of the records: only this, so that it can be tested without a database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from pydantic import BaseModel

from agent.messages.catalogue import MessageType
from agent.messages.envelope import Event
from agent.records.cloud_side import Posting
from agent.records.ground_truth import GroundTruthOutcome
from agent.records.outbox import OutboxRow, OutboxStats

__all__ = ["GroundTruthOutcome", "InboxPort", "OutboxPort", "OutboxRow", "OutboxStats", "Posting"]


class OutboxPort(Protocol):
    """The events that the cloud has not committed."""

    def outbox_look(self, limit: int, *, fresh_after_seq: int, exclude: Collection[str]) -> Future[list[OutboxRow]]:
        """What to send next, most urgent first."""

    def outbox_acknowledge(self, event_ids: Collection[str]) -> Future[int]:
        """These are committed by the cloud."""

    def outbox_attempted(self, event_ids: Collection[str]) -> Future[None]:
        """These were tried without success."""

    def outbox_dead(self, event_id: str, reason: str) -> Future[None]:
        """This one is given up until a person says otherwise."""

    def outbox_stats(self) -> OutboxStats:
        """How the outbox stands."""


class InboxPort(Protocol):
    """Where what comes down ends."""

    def ground_truth(
        self, event: Event, reply: Callable[[GroundTruthOutcome], Posting | None]
    ) -> Future[GroundTruthOutcome]:
        """Keep histopathology for a scan, once by the event's id, with the reply to it."""

    def command_seen(self, event: Event, postings: Sequence[Posting]) -> Future[bool]:
        """Note a command and post what answers it; False where it was there before."""

    def post(
        self, message: MessageType, subject: str, data: BaseModel | Mapping[str, Any], scan_id: str | None = None
    ) -> Future[str]:
        """Put an event of the device into the outbox."""
