"""Carries a request's picture all the way, as a folder's would go, and tells what became of it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from agent.answer.scan import ScanState
from agent.carrying import Busy, Ended, Stopped
from agent.intake.capture import Capture
from agent.intake.headers import sniff
from agent.records import listing, queries
from agent.records.listing import Listed
from agent.web.ports import Agent
from agent.web.problems import (
    BUSY,
    FULL,
    NO_ENGINE,
    NOT_A_PICTURE,
    OTHER_PATIENT,
    REFUSED_PICTURE,
    STOPPING,
    Problem,
)
from agent.web.uploads import SUFFIXES, Uploads

log = logging.getLogger(__name__)

PATIENCE_S: Final = 30.0
"""How long a request waits for its turn and its answer; without any engine, no longer than an answer may take."""
_NOT_OF_THE_PATIENT: Final = ("clinic_id", "dermoscope_id")


@dataclass(frozen=True)
class About:
    """Whose a picture is."""

    clinic_id: str
    patient_id: str
    dermoscope_id: str
    body_site: str | None = None
    age: int | None = None
    sex: str | None = None
    skin_type: str | None = None

    def of(self, site: str | None) -> About:
        """The same for another place of the body."""
        return replace(self, body_site=site)

    def sidecar(self) -> dict[str, Any]:
        """The fields of a sidecar."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in given.items() if name not in _NOT_OF_THE_PATIENT}


@dataclass(frozen=True)
class Sent:
    """A picture that came by a request."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Sent:
        """The picture of these bytes."""
        return cls(data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Told:
    """An answer, as JSON."""

    scan_id: str
    answer_json: str


Run = Callable[..., Awaitable[Any]]


class Carrier:
    """Lives on the web's loop."""

    def __init__(self, agent: Agent, uploads: Uploads, run: Run) -> None:
        """``run`` runs what blocks on one of the web's threads."""
        self._agent, self._uploads, self._run = agent, uploads, run
        self._under_way: dict[str, tuple[str, asyncio.Future[Told]]] = {}

    async def carry(self, sent: Sent | Problem, about: About) -> Told:
        """Carry a picture to its answer.

        Raises:
            Problem: it was refused, is another patient's, or could not be answered now; the text says what to do.
        """
        if isinstance(sent, Problem):
            raise sent
        if (known := self._under_way.get(sent.sha256)) is not None:
            patient_id, ended = known
            if patient_id != about.patient_id:
                raise _other_patient()
            return await asyncio.shield(ended)
        task = asyncio.ensure_future(self._first(sent, about))
        self._under_way[sent.sha256] = (about.patient_id, task)

        def over(task: asyncio.Future[Told]) -> None:
            self._under_way.pop(sent.sha256, None)
            if not task.cancelled():
                task.exception()  # the client may have gone: then nobody else looks at it

        task.add_done_callback(over)
        # The client may go; what was begun for it is carried to its end all the same.
        return await asyncio.shield(task)

    async def _first(self, sent: Sent, about: About) -> Told:
        found: Listed | Capture | None = await self._run(self._begin, sent, about)
        if isinstance(found, Capture):
            durable = asyncio.ensure_future(self._sync(found))
            try:
                told = await self._ask(found)
            finally:
                await durable  # before anyone is told anything
            if told is not None:
                return told
            found = await self._run(self._look, sent.sha256)
        if not isinstance(found, Listed):
            raise Problem(NO_ENGINE, "The picture was not answered. Ask again.", retry_s=5)
        return await self._known(found, about)

    async def _sync(self, capture: Capture) -> None:
        try:
            await self._run(self._uploads.sync, capture.path)
        except OSError as error:  # its answer is kept all the same
            log.error("a picture that came by a request may not outlive a power cut: %s", error.strerror)  # noqa: TRY400

    def _look(self, sha256: str) -> Listed | None:
        with self._agent.store.reading() as db:
            return listing.by_identity(db, f"sha256:{sha256}")

    def _begin(self, sent: Sent, about: About) -> Listed | Capture:
        """The picture's scan where it has ended; else the picture, kept, to be carried."""
        scan = self._look(sent.sha256)
        if scan is not None and scan.state is not ScanState.RECEIVED:
            return scan
        kind = sniff(sent.data[:256])
        if kind not in SUFFIXES:
            raise Problem(NOT_A_PICTURE, "image: is neither a PNG nor a JPEG by its bytes. Save the picture as one.")
        if self._agent.space.full():
            raise Problem(FULL, "There is no room for another picture on this device. Call your support.", retry_s=60)
        if self._uploads.patient_of(sent.sha256) not in {None, about.patient_id}:
            raise _other_patient()
        try:
            capture = self._uploads.keep(sent.data, sent.sha256, kind, about.dermoscope_id, about.sidecar())
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise Problem(FULL, "The disk is full. Call your support.", retry_s=60) from error
            raise
        self._agent.space.wrote(len(sent.data))
        return capture

    async def _ask(self, capture: Capture) -> Told | None:
        """Wait for the picture's turn and its end: its answer, or None where it had ended before."""
        setting = self._agent.setting()
        patience_s = PATIENCE_S if setting.ladder.ready else setting.deadline_s
        try:
            promise = asyncio.wrap_future(self._agent.ask(capture))
            ended: Ended = await asyncio.wait_for(asyncio.shield(promise), patience_s)
        except Busy as busy:
            raise Problem(
                BUSY, "Too many pictures wait already. This one is kept; send it again.", retry_s=busy.retry_s
            ) from busy
        except Stopped:
            raise Problem(
                STOPPING, "The device is stopping. The picture is kept and answered when it runs again.", retry_s=10
            ) from None
        except asyncio.TimeoutError:
            raise Problem(
                NO_ENGINE,
                "No engine has answered in time. The picture is kept, and answered as soon as one can: send it again.",
                retry_s=5,
            ) from None
        finished = ended.finished
        if finished is None:
            return None
        if finished.answer is None:
            raise _refused(finished.scan_id, finished.reason.value if finished.reason else "", finished.sentence or "")
        return Told(finished.scan_id, finished.answer.model_dump_json())

    async def _known(self, scan: Listed, about: About) -> Told:
        """What was answered before, for the same patient alone."""
        if scan.patient_id is not None and scan.patient_id != about.patient_id:
            raise _other_patient()
        if scan.state is ScanState.REJECTED:
            raise _refused(scan.scan_id, scan.reason or "", scan.sentence or "")
        if scan.patient_id is None:  # it came from a folder without a name: this is the name, as a late sidecar's
            await asyncio.wrap_future(self._agent.store.add_metadata(scan.scan_id, about.sidecar()))
        result = await self._run(self._result, scan.scan_id)
        return Told(scan.scan_id, result)

    def _result(self, scan_id: str) -> str:
        with self._agent.store.reading() as db:
            result = queries.result_json(db, scan_id)
        if result is None:
            raise Problem(NO_ENGINE, "The picture has not been answered yet. Ask again.", retry_s=5)
        return result


def _other_patient() -> Problem:
    return Problem(
        OTHER_PATIENT, "This very picture was sent before, for another patient. Check whose it is; nothing was changed."
    )


def _refused(scan_id: str, reason: str, sentence: str) -> Problem:
    return Problem(REFUSED_PICTURE, sentence, reason=reason, scan_id=scan_id)
