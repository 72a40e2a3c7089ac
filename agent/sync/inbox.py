"""What the cloud says to the device, turned into what the records keep and what is answered.

Nothing is installed, changed or deleted because a message says so: hints are recorded, and a person decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from agent.messages.catalogue import ALERT, COMMAND, COMMAND_REPLY, GROUND_TRUTH, TELEMETRY
from agent.messages.device import Alert, CommandReply, Telemetry
from agent.messages.down import Command
from agent.messages.envelope import Event, MalformedMessage, Sender, parse
from agent.messages.verdicts import GroundTruth
from agent.sync.ports import GroundTruthOutcome, InboxPort, Posting

log = logging.getLogger(__name__)

EXPECTED: Final = {GROUND_TRUTH.topic: GROUND_TRUTH, COMMAND.topic: COMMAND}
REPLIES_A_MINUTE: Final = 10
"""To what is malformed: a cloud gone wrong must not fill the outbox."""


class Inbox:
    """Use from the sync's thread.

    Args:
        records: where it ends.
        sender: this device.
        figures: the device's figures now, for a report; names and numbers, nothing of a patient.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        records: InboxPort,
        sender: Sender,
        figures: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._sender, self._figures, self._clock = records, sender, figures, clock
        self._replied: list[float] = []
        self.malformed = 0
        """Messages that were none."""

    def take(self, topic: str, payload: bytes, sync_now: Callable[[], None]) -> Future[Any] | None:
        """Deal with a message; the future is kept when all of it is durable. None: there is nothing to keep.

        Args:
            topic: its last part.
            payload: what came.
            sync_now: sends all that waits.
        """
        if topic not in EXPECTED:
            return self._malformed(topic, MalformedMessage("nothing is expected on this topic"))
        try:
            event = parse(payload, (EXPECTED[topic],))
        except MalformedMessage as error:
            return self._malformed(topic, error)
        if isinstance(event.data, GroundTruth):
            return self._records.ground_truth(event, lambda outcome: self._ground_truth_reply(event, outcome))
        if isinstance(event.data, Command):
            return self._command(event, event.data, sync_now)
        return None

    def _ground_truth_reply(self, event: Event, outcome: GroundTruthOutcome) -> Posting | None:
        if outcome is not GroundTruthOutcome.UNKNOWN_SCAN or not isinstance(event.data, GroundTruth):
            return None
        said = "No scan of this id is known here. What was sent is kept, in case the scan comes."
        return self._reply(event.id, "ground-truth", "recorded", said, {"scan_id": event.data.scan_id})

    def _command(self, event: Event, command: Command, sync_now: Callable[[], None]) -> Future[bool]:
        postings = self._postings(event, command)
        done = self._records.command_seen(event, postings)
        if command.command == "sync-now":
            done.add_done_callback(lambda heard: sync_now() if heard.exception() is None and heard.result() else None)
        return done

    def _postings(self, event: Event, command: Command) -> list[Posting]:
        """What answers a command, kept together with the command in one transaction."""
        match command.command:
            case "sync-now":
                return [self._reply(event.id, "sync-now", "done", "All that waits is sent.")]
            case "send-report":
                report = Telemetry(report="asked", figures=dict(self._figures()))
                return [
                    Posting(TELEMETRY, self._sender.device_id, report),
                    self._reply(event.id, "send-report", "done", "The report is on its way."),
                ]
            case "model-available":
                said = "Recorded. Which model runs is decided by a person at the device."
                return [self._reply(event.id, "model-available", "recorded", said, {"model": command.model})]
            case "recalibrate":
                return self._recalibrate(event, command)

    def _recalibrate(self, event: Event, command: Command) -> list[Posting]:
        which = command.dermoscope_id
        scope = f"Dermoscope {which}" if which else "Every dermoscope of this device"
        details = {"dermoscope_id": which}
        said = "Recorded. A technician with a colour chart must do it: dermascan calibrate."
        try:
            alert = Alert(
                kind="recalibration_asked",
                sentence=f"{scope} is to be calibrated: the cloud asks for it.",
                dermoscope_id=which,
            )
        except ValueError:
            return [self._reply(event.id, "recalibrate", "refused", "dermoscope_id is no id of a dermoscope.")]
        subject = which or self._sender.device_id
        return [Posting(ALERT, subject, alert), self._reply(event.id, "recalibrate", "recorded", said, details)]

    def _malformed(self, topic: str, error: MalformedMessage) -> Future[str] | None:
        self.malformed += 1
        log.warning("a message on %s was not understood: %.500s", topic, error)
        now = self._clock()
        self._replied = [at for at in self._replied if now - at < 60.0]
        if len(self._replied) >= REPLIES_A_MINUTE:
            return None
        self._replied.append(now)
        reply = self._reply(error.event_id, None, "malformed", f"On {topic or 'an unknown topic'}: {error}"[:2000])
        return self._records.post(reply.message, reply.subject, reply.data)

    def _reply(
        self,
        command_id: str | None,
        command: str | None,
        outcome: Any,
        said: str,
        details: Mapping[str, Any] | None = None,
    ) -> Posting:
        reply = CommandReply(
            command_id=command_id, command=command, outcome=outcome, sentence=said, details=dict(details or {})
        )
        return Posting(COMMAND_REPLY, self._sender.device_id, reply)
