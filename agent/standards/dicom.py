"""A scan as DICOM files: the overlay's image, and the report that refers to it."""

from __future__ import annotations

from agent.standards.dicom_image import overlay_image
from agent.standards.dicom_report import measurement_report
from agent.standards.discretion import discreet
from agent.standards.errors import NothingToExport, StandardsMissing
from agent.standards.files import ExportFile
from agent.standards.material import Material
from agent.standards.objects import When, sealed
from agent.standards.taken_over import take_over

CONTENT_TYPE = "application/dicom"
MISSING = "DICOM needs highdicom, which is not installed here: pip install 'dermascan-edge[standards]'"


def dicom_files(material: Material) -> tuple[ExportFile, ...]:
    """The image and the report, in the order in which an archive should get them.

    Raises:
        NothingToExport: the capture was refused, or its pictures were given up. An archive must not hold a report
            without a finding, which might be taken for one that found nothing; FHIR and JSON say what became of it.
        StandardsMissing: highdicom is not installed.
    """
    dossier = material.dossier
    if dossier.answer is None or material.overlay is None:
        why = "was refused" if dossier.answer is None else "is so old that its pictures are no longer kept"
        raise NothingToExport(
            f"scan {dossier.scan_id} {why}, so there is nothing to file as DICOM: export it as fhir or json"
        )
    try:
        import highdicom as _  # noqa: F401
    except ImportError as error:
        raise StandardsMissing(MISSING) from error
    with discreet():
        taken = take_over(material)
        when = When.of(dossier, taken)
        image = overlay_image(material.overlay, dossier, taken, when)
        image_bytes = sealed(image, dossier.scan_id, "image")
        report = measurement_report(image, dossier, taken, when)
        report_bytes = sealed(report, dossier.scan_id, "report")
    return (
        ExportFile(f"{dossier.scan_id}.image.dcm", image_bytes, CONTENT_TYPE),
        ExportFile(f"{dossier.scan_id}.v{dossier.version}.report.dcm", report_bytes, CONTENT_TYPE),
    )
