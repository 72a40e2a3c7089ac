"""What the store does for the cloud's part of the agent: the outbox, verdicts, and what the cloud said."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from agent.messages.catalogue import ALERT, COMMAND_REPLY, TELEMETRY, MessageType
from agent.messages.envelope import Event, Sender, event_bytes
from agent.records import ground_truth, outbox, verdicts
from agent.records.audit import Actor
from agent.records.connection import Connection
from agent.records.ground_truth import GroundTruthOutcome, GroundTruthRow
from agent.records.outbox import OutboxRow, OutboxStats
from agent.records.sealing import NOTE, PLAIN, Seal
from agent.records.verdicts import UNSAID, Given, Unsaid, Verdict, VerdictCounts
from agent.records.writer import Writer

T = TypeVar("T")

POSTED = (ALERT, COMMAND_REPLY, TELEMETRY)
"""The messages of the device itself. Results and verdicts are posted with what they are of, and numbered by it."""


@dataclass(frozen=True)
class Posting:
    """An event of the device that is to be sent. ``event_id``: of the caller's choice, where a repeat is possible."""

    message: MessageType
    subject: str
    data: BaseModel | Mapping[str, Any]
    scan_id: str | None = None
    event_id: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what is no message of the device, or has anything in it that its schema has not."""
        if self.message not in POSTED:
            allowed = ", ".join(message.type for message in POSTED)
            raise ValueError(f"{self.message.type} is not posted by itself; {allowed} are")
        if not isinstance(self.data, BaseModel):
            self.message.model.model_validate(self.data)


class CloudSide:
    """The half of the store that the cloud's part uses; see `agent.records.store.Store` for its rules."""

    _writer: Writer
    _sender: Sender
    _seal: Seal = PLAIN

    def __init__(self) -> None:
        self.on_posted: Callable[[], None] = _nobody_listens
        """Called after each commit that may have put something into the outbox, on the store's thread: be quick."""

    # The outbox

    def post(
        self, message: MessageType, subject: str, data: BaseModel | Mapping[str, Any], scan_id: str | None = None
    ) -> Future[str]:
        """Put an event of the device into the outbox, with its topic's next number; gives its id.

        Raises:
            ValueError: at once, where the data break the message's schema.
        """
        posting, at = Posting(message, subject, data, scan_id), self._time()
        return self._submit_posting(lambda db: self._post(db, posting, at))

    def outbox_due(self, limit: int, *, fresh_after_seq: int, exclude: Collection[str] = ()) -> list[OutboxRow]:
        """The events to send next, the most urgent first, without those in ``exclude`` (F20)."""
        return self.outbox_look(limit, fresh_after_seq=fresh_after_seq, exclude=exclude).result()

    def outbox_look(
        self, limit: int, *, fresh_after_seq: int, exclude: Collection[str] = ()
    ) -> Future[list[OutboxRow]]:
        """As ``outbox_due``, for those who do not wait while something is being written."""
        look = partial(outbox.due, limit=limit, fresh_after_seq=fresh_after_seq, exclude=exclude)
        return self._writer.submit(look, writes=False)

    def outbox_acknowledge(self, event_ids: Iterable[str]) -> Future[int]:
        """The cloud has committed these: they leave. Gives how many had not left already; unknown ids are no error."""
        ids = tuple(event_ids)
        return self._writer.submit(lambda db: outbox.acknowledge(db, ids))

    def outbox_attempted(self, event_ids: Iterable[str]) -> Future[None]:
        """Count a try at sending these."""
        ids = tuple(event_ids)
        return self._writer.submit(lambda db: outbox.attempted(db, ids))

    def outbox_dead(self, event_id: str, reason: str) -> Future[None]:
        """Give an event up, for a reason that people read; it stays, and may be tried again (F21)."""
        return self._writer.submit(lambda db: outbox.dead(db, event_id, reason))

    def outbox_retry(self, event_id: str | None) -> Future[int]:
        """Let one event that was given up wait again, all of them where None; gives how many."""
        return self._submit_posting(lambda db: outbox.retry(db, event_id))

    def outbox_stats(self) -> OutboxStats:
        """How the outbox stands."""
        return self._read(outbox.stats)

    # Verdicts

    def verdict(
        self,
        scan_id: str,
        diagnosis: str | None,
        source: str,
        by: str | None = None,
        note: str | None = None,
        *,
        verdict_id: str | None = None,
        given_at: str | None = None,
        actor: Actor | None = None,
        expected: str | Unsaid | None = UNSAID,
    ) -> Future[str]:
        """Keep what a clinician or pathologist said of a scan, and tell the cloud: one transaction; gives its id.

        Args:
            scan_id: the scan, answered or refused.
            diagnosis: one of the seven classes; None withdraws the verdict that stands.
            source: ``clinician``, ``histopathology`` or ``follow_up``.
            by: who says so; stays on the device.
            note: in their own words; stays on the device.
            verdict_id: where it may come twice; the second time nothing is done.
            given_at: when, where that was not now (RFC 3339, UTC, milliseconds).
            actor: who is known to have sent it, for the audit; None: a command on the device.
            expected: the verdict that stood when this one was thought of; None: none did.

        The future raises UnknownScan, or VerdictRefused with a sentence (VerdictOverdue: ``expected`` stands no more).
        """
        now = self._time()
        at = given_at or now
        trusted = self._clock_trusted() and at <= now
        given = Given(
            verdict_id or str(uuid.uuid4()), scan_id, diagnosis, source, by, note, at, trusted, actor, expected
        )
        return self._submit_posting(lambda db: verdicts.give(db, self._sender, given, self._seal))

    def verdicts(self, scan_id: str) -> list[Verdict]:
        """A scan's verdicts, oldest first: the last one stands."""
        kept = self._read(partial(verdicts.of_scan, scan_id=scan_id))
        return [
            one if one.note is None else replace(one, note=self._seal.open(one.note, one.verdict_id, NOTE))
            for one in kept
        ]

    def verdict_counts(self) -> VerdictCounts:
        """How often the model was found right, by the verdicts that stand."""
        return self._read(verdicts.counts)

    # What the cloud said

    def ground_truth(
        self, event: Event, reply: Callable[[GroundTruthOutcome], Posting | None] = lambda _: None
    ) -> Future[GroundTruthOutcome]:
        """Keep histopathology for a scan, once however often it comes, and post ``reply`` to it: one transaction.

        Args:
            event: of type GROUND_TRUTH.
            reply: gives the answer to the cloud; not asked about a repeat, which was answered.
        """
        at = self._time()
        content = event.data.model_dump(mode="json")

        def keep(db: Connection) -> GroundTruthOutcome:
            outcome = ground_truth.keep(
                db,
                event_id=event.id,
                scan_id=content["scan_id"],
                diagnosis=content["diagnosis"],
                data=event.data.model_dump_json(),
                sent_at=event.time,
                received_at=at,
            )
            if outcome is not GroundTruthOutcome.REPEATED and (posting := reply(outcome)) is not None:
                self._post(db, posting, at)
            return outcome

        return self._submit_posting(keep)

    def ground_truth_of(self, scan_id: str) -> list[GroundTruthRow]:
        """What pathologists found for a scan, oldest first."""
        return self._read(partial(ground_truth.of_scan, scan_id=scan_id))

    def command_seen(self, event: Event, postings: Sequence[Posting] = ()) -> Future[bool]:
        """Note a command and post what answers it: one transaction. False: a repeat, nothing was done.

        What a command does beside this is done after it, so that a repeat does not do it again.
        """
        at = self._time()
        name = str(getattr(event.data, "command", event.message.type))

        def hear(db: Connection) -> bool:
            heard = ground_truth.hear(
                db, event_id=event.id, name=name, data=event.data.model_dump_json(), received_at=at
            )
            if heard:
                for posting in postings:
                    self._post(db, posting, at)
            return heard

        return self._submit_posting(hear)

    def _post(self, db: Connection, posting: Posting, at: str) -> str:
        message, event_id = posting.message, posting.event_id or str(uuid.uuid4())
        seq = outbox.next_number(db, message.topic)
        outbox.enqueue(
            db,
            event_id=event_id,
            scan_id=posting.scan_id,
            event_type=message.type,
            topic=message.topic,
            event=event_bytes(
                self._sender,
                message,
                event_id=event_id,
                subject=posting.subject,
                seq=seq,
                time=at,
                data=posting.data,
            ),
            created_at=at,
        )
        return event_id

    def _submit_posting(self, run: Callable[[Connection], T]) -> Future[T]:
        promise = self._writer.submit(run)
        promise.add_done_callback(self._say_posted)
        return promise

    def _say_posted(self, promise: Future[Any]) -> None:
        if not promise.cancelled() and promise.exception() is None:
            self.on_posted()

    def _read(self, run: Callable[[Connection], T]) -> T:
        return self._writer.submit(run, writes=False).result()

    def _time(self) -> str:
        raise NotImplementedError

    def _clock_trusted(self) -> bool:
        raise NotImplementedError


def _nobody_listens() -> None:
    pass
