"""The answer as a DICOM structured report: TID 1500 "Measurement Report" in a Comprehensive SR.

What a clinician's verdict does to it: the preliminary flag becomes FINAL and the verdict is in the content. The
verification flag stays UNVERIFIED, always: VERIFIED is an attestation by a named observer of a named organisation
(PS3.3, C.17.2), who is answerable for the whole document. A verdict in the page is about the lesion, not about this
document; and the names of those who give verdicts do not leave the device. Whoever attests it does so in the archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.answer import texts
from agent.answer.scan import Answer
from agent.standards import codes
from agent.standards.codes import Code
from agent.standards.dossier import Dossier
from agent.standards.identity import uid_of
from agent.standards.objects import PRODUCT, UTF_8, When, created, identify, notes_of
from agent.standards.taken_over import Reference, TakenOver
from agent.standards.words import clean

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR
    from pydicom import Dataset

SERIES_NUMBER: Final = 9002
DESCRIPTION: Final = "DermaScan report: measurements of a model"


def measurement_report(image: Dataset, dossier: Dossier, taken: TakenOver, when: When) -> ComprehensiveSR:
    """The report of an answered scan, without its final SOP Instance UID.

    Args:
        image: the overlay's image, which it refers to; with its final UID.
        dossier: an answered scan.
        taken: from the DICOM capture, if it is one; then the measurements refer to that.
        when: how times are written.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR

    answer = dossier.answer
    assert answer is not None  # noqa: S101 - a refused capture has no report
    evidence = [image]
    if taken.reference is not None:
        evidence.append(_stand_in(taken.reference))
    report = ComprehensiveSR(
        evidence=evidence,
        content=_content(image, answer, dossier, taken)[0],
        series_instance_uid=uid_of(dossier.scan_id, "series", "report"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid_of(dossier.scan_id, "report"),
        instance_number=dossier.version,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        device_serial_number=dossier.device_id,
        software_versions=answer.software_version,
        series_description=DESCRIPTION,
        is_complete=True,
        is_final=dossier.judged,
        is_verified=False,
        specific_character_set=UTF_8,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                codes.PRIVATE, name="DermaScan Edge codes (docs/standards.md)", responsible_organization=PRODUCT
            )
        ],
    )
    identify(report, dossier, taken, when)
    created(report, dossier.changed_at, when)
    return report


def _stand_in(reference: Reference) -> Dataset:
    """What highdicom asks of an instance that a report refers to; of the capture itself, no more than its ids."""
    from pydicom import Dataset

    instance = Dataset()
    instance.StudyInstanceUID = reference.study
    instance.SeriesInstanceUID = reference.series
    instance.SOPClassUID = reference.sop_class
    instance.SOPInstanceUID = reference.sop_instance
    return instance


def _content(image: Dataset, answer: Answer, dossier: Dossier, taken: TakenOver) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes as dicom

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", dossier.device_id),
        name=dossier.device_id,
        manufacturer_name=PRODUCT,
        model_name=PRODUCT,
        serial_number=dossier.device_id,
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(dicom.DCM.Device, device),
        ),
        procedure_reported=dicom.SCT.DermoscopicPhotography,
        imaging_measurements=[_group(image, answer, dossier, taken)],
        title=dicom.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept("en", "RFC5646", "English")
        ),
        referenced_images=[image],
    )


def _group(image: Dataset, answer: Answer, dossier: Dossier, taken: TakenOver) -> Any:
    """The one measurement group (TID 1501): the lesion that the picture shows."""
    from highdicom import sr
    from pydicom.sr.codedict import codes as dicom

    measured = taken.reference
    source = sr.SourceImageForMeasurementGroup(
        measured.sop_class if measured else image.SOPClassUID,
        measured.sop_instance if measured else image.SOPInstanceUID,
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid_of(dossier.scan_id, "lesion"), dossier.scan_id),
        finding_type=dicom.SCT.SkinLesion,
        finding_sites=[sr.FindingSite(_site(taken.region))] if taken.region else None,
        algorithm_id=_algorithm(answer),
        measurements=_measurements(answer),
        qualitative_evaluations=_evaluations(answer, dossier),
        source_images=[source],
    )
    content = group[0].ContentSequence
    # What warns of the result stands before it, also where a viewer shows the items in their order.
    place = next(index for index, item in enumerate(content) if item.ValueType == "NUM")
    for note in reversed(notes_of(dossier)):
        content.insert(place, _text(_coded(codes.WARNING), note))
    content.extend(_text(name, text) for name, text in _texts(answer, dossier))
    return group


def _text(name: Any, text: str) -> Any:
    from highdicom import sr

    return sr.TextContentItem(name=name, value=clean(text), relationship_type=sr.RelationshipTypeValues.CONTAINS)


def _algorithm(answer: Answer) -> Any:
    from highdicom import sr

    name, _, version = answer.model_version.rpartition("/")
    return sr.AlgorithmIdentification(
        name=name or answer.model_version,
        version=version or answer.model_version,
        manufacturer=PRODUCT,
        parameters=[
            f"model sha256: {answer.model_sha256}",
            f"software version: {answer.software_version}",
            f"operating threshold: {answer.operating.threshold:g}",
            f"backend: {answer.backend}",
            f"image sha256: {answer.image_sha256}",
        ],
    )


def _measurements(answer: Answer) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes as dicom

    values = [
        (codes.RISK, answer.diagnosis.melanoma_risk),
        (codes.THRESHOLD, answer.operating.threshold),
        *((codes.probability_code(name), share) for name, share in answer.diagnosis.all_classes.items()),
    ]
    return [sr.Measurement(name=_coded(code), value=value, unit=dicom.UCUM.Ratio) for code, value in values]


def _evaluations(answer: Answer, dossier: Dossier) -> list[Any]:
    from highdicom import sr

    found = [
        (codes.AGAINST_THRESHOLD, codes.AT_OR_ABOVE if answer.operating.suspicious else codes.BELOW),
        (codes.SUGGESTION, codes.class_code(answer.diagnosis.primary)),
        (codes.CALIBRATION, codes.CALIBRATIONS[answer.calibration.state.value]),
    ]
    if dossier.verdict is not None:
        found.append((codes.VERDICT, codes.class_code(str(dossier.verdict.diagnosis))))
        found.append((codes.VERDICT_SOURCE, codes.source_code(dossier.verdict.source)))
    if dossier.truth is not None:
        found.append((codes.HISTOPATHOLOGY, codes.class_code(dossier.truth.diagnosis)))
    return [sr.QualitativeEvaluation(_coded(name), _coded(value)) for name, value in found]


def _texts(answer: Answer, dossier: Dossier) -> list[tuple[Any, str]]:
    from pydicom.sr.codedict import codes as dicom

    said = [(dicom.DCM.Recommendation, answer.recommendation), (_coded(codes.INTENDED_USE), texts.ADJUNCT)]
    if site := dossier.metadata.get("body_site"):
        said.append((_coded(codes.BODY_SITE), site))
    if dossier.verdict is not None:
        said.append((_coded(codes.VERDICT_TIME), dossier.verdict.given_at))
    return said


def _site(region: tuple[str, str, str]) -> Any:
    from highdicom import sr

    return sr.CodedConcept(*region)


def _coded(code: Code) -> Any:
    from highdicom import sr

    return sr.CodedConcept(code.value, code.scheme, code.meaning)
