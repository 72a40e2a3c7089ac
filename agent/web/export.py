"""``GET /api/v1/scans/{id}/export``: a scan as DICOM, FHIR or JSON, for other systems to take."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from agent.records.audit import AuditAction
from agent.standards.download import Download, download
from agent.standards.errors import ExportError, NotFinished, NothingToExport, StandardsMissing, UnknownExport
from agent.standards.export import Format
from agent.web.context import Here
from agent.web.gate import SeesPatients
from agent.web.problems import (
    BUSY,
    INTERNAL,
    INVALID,
    NO_SUCH_SCAN,
    NOT_ANSWERED,
    NOT_FOUND,
    SIGNED_IN,
    Problem,
    described,
)
from agent.web.scans import ScanId, no_such_scan

router = APIRouter(prefix="/api/v1", tags=["scans"])

PATIENCE_S: Final = 20.0
"""One is built at a time, as that takes memory; who waits longer than this for the one before is told to come again."""
_one_at_a_time = asyncio.Semaphore(1)


@router.get(
    "/scans/{scan_id}/export",
    response_class=Response,
    responses={
        200: {
            "description": "FHIR and JSON as they are, DICOM's files in a ZIP archive",
            "content": {
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
                "application/fhir+json": {"schema": {"type": "object"}},
                "application/json": {"schema": {"type": "object"}},
            },
        },
        **described(*SIGNED_IN, NO_SUCH_SCAN, NOT_FOUND, NOT_ANSWERED, INVALID),
    },
)
async def export(
    scan_id: ScanId,
    here: Here,
    visitor: SeesPatients,
    wanted: Annotated[Format, Query(alias="format", description="dicom, fhir or json")],
) -> Response:
    """A scan for other systems. It names the patient, and is audited."""
    try:
        await asyncio.wait_for(_one_at_a_time.acquire(), PATIENCE_S)
    except asyncio.TimeoutError:
        raise Problem(BUSY, "Other exports are being made. Try again.", retry_s=5) from None
    try:
        made: Download = await here.run(download, here.agent.config.device.state_dir, scan_id, wanted)
    except UnknownExport:
        raise no_such_scan() from None
    except NotFinished:
        raise Problem(NOT_ANSWERED, "Export the scan when it has been answered.", retry_s=2) from None
    except NothingToExport:
        raise Problem(NOT_FOUND, "There is nothing of this scan in this format.") from None
    except StandardsMissing:
        raise Problem(NOT_FOUND, "This device was installed without what this format needs.") from None
    except ExportError as error:
        raise Problem(INTERNAL, f"{error}.") from error
    finally:
        _one_at_a_time.release()
    identity = visitor.identity
    detail = {"format": wanted.value, "to": "api"}
    here.agent.store.audit(AuditAction.EXPORT, identity.name, identity.role.value, scan_id, detail)
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
    return Response(made.data, headers=headers, media_type=made.content_type)
