"""How the device does, for the page's device panel and for technicians."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Final, Literal

from fastapi import APIRouter, Response

from agent import __version__
from agent.answer.scan import CalibrationState
from agent.records import outbox, queries
from agent.records.space import MIB
from agent.web.context import Here, reply
from agent.web.gate import SeesStatus
from agent.web.models import (
    CalibrationInfo,
    CaptureLoad,
    CloudInfo,
    DermoscopeInfo,
    DiskInfo,
    ModelInfo,
    OutboxInfo,
    RungInfo,
    ScanCounts,
    Status,
)
from agent.web.ports import Agent
from agent.web.problems import SIGNED_IN, described
from calibration.shelf.reading import FOLDER as SHELF
from calibration.shelf.reading import Shelf
from engines.ladder import Rung

router = APIRouter(prefix="/api/v1", tags=["device"])

NO_CLOUD: Final = "No cloud is configured: events wait on this device."


@router.get("/status", response_model=Status, responses=described(*SIGNED_IN))
async def status(here: Here, visitor: SeesStatus) -> Response:  # noqa: ARG001 - a right
    """How the device does."""
    return reply(await here.run(status_now, here.agent))


def status_now(agent: Agent) -> Status:
    """As of now; for one of the web's own threads."""
    config, setting = agent.config, agent.setting()
    trusted = setting.clock_trusted()
    with agent.store.reading() as db:
        counts, events = queries.counts(db), outbox.stats(db)
    dermoscopes = [_dermoscope(agent, scope.id, trusted=trusted) for scope in agent.dermoscopes()]
    disk, load = _disk(agent), agent.load()
    manifest = setting.bundle.manifest
    signer = setting.bundle.signer
    return Status(
        device_id=config.device.id,
        clinic_id=config.device.clinic_id,
        software_version=__version__,
        started_at=_text(agent.started_at),
        uptime_s=time.monotonic() - agent.started,
        ready=setting.ladder.ready,
        clock_trusted=trusted,
        model=ModelInfo(
            label=setting.bundle.label,
            sha256=setting.bundle.model_sha256,
            demo=signer is None or signer.demo,
            threshold=manifest.operating_point.threshold,
            classes=list(manifest.classes),
        ),
        rungs=[_rung(rung) for rung in setting.ladder.rungs],
        captures=CaptureLoad(in_hand=load.in_hand, waiting=load.waiting),
        counts=ScanCounts(received=counts.received, answered=counts.answered, rejected=counts.rejected),
        outbox=OutboxInfo(
            waiting=events.waiting,
            acknowledged=events.acknowledged,
            dead=events.dead,
            oldest_waiting_at=events.oldest_waiting_at,
        ),
        cloud=_cloud(agent),
        dermoscopes=dermoscopes,
        disk=disk,
        warnings=_warnings(agent, dermoscopes, disk, dead=events.dead, trusted=trusted),
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rung(rung: Rung) -> RungInfo:
    runner = rung.runner
    state: Literal["ready", "starting", "failed"] = "ready"
    if not runner.ready:
        state = "starting" if runner.last_failure is None else "failed"
    typical_s = runner.typical_run_s
    return RungInfo(
        name=rung.name,
        state=state,
        detail=None if runner.ready else runner.last_failure,
        typical_ms=None if typical_s is None else typical_s * 1e3,
    )


def _cloud(agent: Agent) -> CloudInfo:
    sync = agent.sync()
    if sync is None:
        return CloudInfo(configured=False, phase=None, sentence=NO_CLOUD)
    return CloudInfo(configured=True, phase=sync.phase.value, sentence=sync.sentence)


def _dermoscope(agent: Agent, dermoscope_id: str, *, trusted: bool) -> DermoscopeInfo:
    shelf = Shelf(agent.config.device.state_dir / SHELF)
    standing = shelf.standing(dermoscope_id, datetime.now(timezone.utc), trusted)
    return DermoscopeInfo(
        id=dermoscope_id,
        folder_ok=agent.folder_ok(dermoscope_id),
        calibration=CalibrationInfo(
            state=CalibrationState(standing.state.value),
            profile_id=standing.profile_id,
            age_days=standing.age_days,
            warnings=list(standing.sentences),
        ),
    )


def _disk(agent: Agent) -> DiskInfo:
    space = agent.space.space()
    return DiskInfo(
        free_mb=space.disk_free // MIB,
        quota_mb=space.quota // MIB,
        used_mb=(space.database + space.results) // MIB,
        full=agent.space.full(),
    )


def _warnings(
    agent: Agent, dermoscopes: list[DermoscopeInfo], disk: DiskInfo, *, dead: int, trusted: bool
) -> list[str]:
    found = []
    if not agent.setting().ladder.ready:
        found.append("No engine is ready: pictures wait until one is.")
    if disk.full:
        found.append("There is no room: new pictures wait in their folder until there is.")
    found += [
        f"The folder of dermoscope {scope.id} is not there, or is another one."
        for scope in dermoscopes
        if not scope.folder_ok
    ]
    if not trusted:
        found.append("The clock cannot be right: connect the device to the network, or set its clock.")
    if dead:
        found.append(f"{dead} events could not be sent, and wait for a decision (dermascan queue).")
    return [*found, *agent.warnings()]
