"""The overlay as a DICOM secondary capture image: what was captured beside where the model looked, words burned in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.answer import texts
from agent.standards.dossier import Dossier
from agent.standards.identity import uid_of
from agent.standards.material import pixels_of
from agent.standards.objects import MODALITY, PRODUCT, When, created, identify
from agent.standards.taken_over import TakenOver

if TYPE_CHECKING:
    from highdicom.sc import SCImage

SERIES_NUMBER: Final = 9001
"""High, so that it does not stand among a camera's own series."""
DESCRIPTION: Final = "DermaScan overlay: picture and model attention"
MOST_IN_ST: Final = 1024


def overlay_image(overlay: bytes, dossier: Dossier, taken: TakenOver, when: When) -> SCImage:
    """The overlay as a Secondary Capture image (PS3.3, A.8.1), without its final SOP Instance UID.

    Args:
        overlay: the PNG; its pixels are stored uncompressed, which every archive and viewer reads.
        dossier: an answered scan.
        taken: from the DICOM capture, if it is one.
        when: how times are written.
    """
    from highdicom.enum import CoordinateSystemNames
    from highdicom.sc import ConversionTypeValues, SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    answer = dossier.answer
    assert answer is not None  # noqa: S101 - a refused capture has no overlay
    image = SCImage(
        pixel_array=pixels_of(overlay),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),
        study_instance_uid=uid_of(dossier.scan_id, "study"),
        series_instance_uid=uid_of(dossier.scan_id, "series", "image"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid_of(dossier.scan_id, "image"),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        device_serial_number=dossier.device_id,
        software_versions=answer.software_version,
        series_description=DESCRIPTION,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    identify(image, dossier, taken, when)
    created(image, dossier.finished_at, when)
    image.Modality = MODALITY
    image.Laterality = ""
    image["PatientOrientation"].value = ""  # nobody knows how the dermoscope was held
    image.ConversionType = ConversionTypeValues.WSD.value
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BurnedInAnnotation = "YES"
    image.DerivationDescription = (
        "The captured picture, reduced, beside a copy of it with the attention of the classifier "
        f"{answer.model_version} over the square that it looked at, and the answer in words. No patient is named in "
        "the pixels. Colours are not for measurement."
    )[:MOST_IN_ST]
    image.ImageComments = texts.ADJUNCT
    if answer.captured_at is not None:
        image.AcquisitionDate, image.AcquisitionTime = when.date_time(answer.captured_at)
    if taken.lossy:
        image.LossyImageCompression = "01"
    _refer(image, taken)
    return image


def _refer(image: SCImage, taken: TakenOver) -> None:
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

    if taken.region is not None:
        image.AnatomicRegionSequence = [CodedConcept(taken.region[0], taken.region[1], taken.region[2])]
    if taken.reference is None:
        return
    source = Dataset()
    source.ReferencedSOPClassUID = taken.reference.sop_class
    source.ReferencedSOPInstanceUID = taken.reference.sop_instance
    source.PurposeOfReferenceCodeSequence = [CodedConcept("121322", "DCM", "Source of Image Processing Operation")]
    image.SourceImageSequence = [source]
