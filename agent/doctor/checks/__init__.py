"""The checks, one file each, in the order in which they are told."""

from __future__ import annotations

from typing import Final

from agent.doctor.checks import (
    access,
    audit,
    backups,
    broker,
    calibration,
    captures,
    certificates,
    clock,
    cloud,
    database,
    disk,
    folders,
    gpu,
    leftovers,
    model,
    outbox,
    replaced,
    sandbox,
    secrets,
    service,
    settings,
    sqlite,
    tensorrt,
    wear,
)
from agent.doctor.finding import Check

CHECKS: Final[tuple[Check, ...]] = tuple(
    module.CHECK
    for module in (
        settings,
        service,
        captures,
        model,
        gpu,
        tensorrt,
        calibration,
        database,
        sqlite,
        audit,
        backups,
        replaced,
        disk,
        wear,
        clock,
        outbox,
        broker,
        certificates,
        cloud,
        folders,
        secrets,
        access,
        sandbox,
        leftovers,
    )
)
