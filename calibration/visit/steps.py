"""The steps of a technician's visit, from pictures to documents; the shelf keeps what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from calibration.colour import Floats, srgb_to_lab
from calibration.correction import figures as figures_of
from calibration.correction.examination import Examination, examine
from calibration.correction.fit import fit
from calibration.correction.flatfield import FlatFieldRefused, GainMap, gain_map
from calibration.correction.gates import Limits, Outcome, judge, judge_second_shot
from calibration.shelf.files import sha256
from calibration.shelf.profile import (
    MAX_AGE_DAYS,
    Evidence,
    Figures,
    FlatField,
    PatchResult,
    Profile,
    encode_gain,
    expiry,
    same_aspect,
    seal_profile,
)
from calibration.shelf.verification import Verdict, Verification, seal_verification
from calibration.visit.look import Look, Order
from calibration.visit.pictures import Picture, kept_jpeg

FLAT_FIELD_AGE: Final = timedelta(hours=24)
"""How old a flat field may be for a fit: of the same visit."""
MANY_SHOTS: Final = 4
"""From here on the pictures kept for the report are smaller."""


VERDICTS: Final[Mapping[Outcome, Verdict]] = {Outcome.PASS: "pass", Outcome.MARGINAL: "warn", Outcome.FAIL: "block"}


class VisitError(Exception):
    """A step cannot be taken: one sentence that says what to do."""


@dataclass(frozen=True)
class Who:
    """Of whom and of what a document tells."""

    dermoscope_id: str
    operator: str
    illuminant: str
    target_serial: str | None
    software_version: str


Files = dict[str, bytes]


def make_flat_field(pictures: Sequence[Picture], made_at: datetime) -> tuple[FlatField, GainMap]:
    """A gain map from white frames.

    Raises:
        VisitError: the frames cannot be used; the sentence says why.
    """
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        told = " and ".join(f"{width}×{height}" for width, height in sorted(sizes))
        raise VisitError(f"The white frames differ in size ({told}): take all of them with one setting of the camera.")
    try:
        gain = gain_map([picture.rgb for picture in pictures])
    except FlatFieldRefused as error:
        raise VisitError(str(error)) from error
    flat = FlatField(
        sha256=sha256(encode_gain(gain)),
        rows=gain.gain.shape[0],
        columns=gain.gain.shape[1],
        lowest=round(float(gain.gain.min()), 4),
        highest=round(float(gain.gain.max()), 4),
        frames=tuple(picture.shot() for picture in pictures),
        made_at=made_at,
    )
    return flat, gain


def check_flat_field(flat: FlatField, pictures: Sequence[Picture], now: datetime) -> None:
    """Whether a flat field belongs to the shots of a chart.

    Raises:
        VisitError: it is of another visit, or of another setting of the camera.
    """
    without = "or fit without it (--no-flatfield)"
    if now - flat.made_at > FLAT_FIELD_AGE:
        raise VisitError(
            f"The flat field is of {flat.made_at:%d %B %Y}, another visit's: take white frames again (dermascan "
            "calibrate "
            f"flatfield), {without}."
        )
    frame = flat.frames[0]
    for picture in pictures:
        if not same_aspect(picture.size, (frame.width, frame.height)):
            raise VisitError(
                f"{picture.path.name} is {picture.size[0]}×{picture.size[1]} and the white frames were "
                f"{frame.width}×{frame.height}: take both with the same setting of the camera, {without}."
            )


def make_profile(
    look: Look,
    flat: tuple[FlatField, GainMap] | None,
    who: Who,
    created_at: datetime,
    *,
    limits: Limits,
    max_age_days: int = MAX_AGE_DAYS,
) -> tuple[Profile, Files]:
    """Fit a profile to what was seen of the chart, judge it, and seal it.

    Args:
        look: of the shots, evened out by the same flat field.
        flat: the flat field, if one was taken.
        who: for the record.
        created_at: now.
        limits: the gates.
        max_age_days: until it expires.

    Returns:
        The profile, whatever its outcome, and the files that go beside it.

    Raises:
        VisitError: nothing can be fitted to these colours.
    """
    try:
        fitted = fit(look.patches.linear, look.reference, one_shot=len(look.pictures) == 1)
    except ValueError as error:
        raise VisitError(f"No correction can be fitted: {error}.") from error
    judgement = judge(fitted, look.patches, limits)
    evidence, files = _evidence(look, "the fit")
    if flat is not None:
        files[flat[0].file] = encode_gain(flat[1])
    before = srgb_to_lab(look.raw)
    profile = Profile(
        dermoscope_id=who.dermoscope_id,
        operator=who.operator,
        created_at=created_at,
        expires_at=expiry(created_at, max_age_days),
        software_version=who.software_version,
        illuminant=who.illuminant,
        chart=look.chart_used(who.target_serial),
        flat_field=flat[0] if flat is not None else None,
        model=fitted.model.as_plain(),
        shape=str(fitted.shape),
        before=_figures(figures_of.measure(before, look.reference)),
        in_sample=_figures(fitted.in_sample),
        leave_one_out=_figures(fitted.leave_one_out),
        patches=_patches(look, before, fitted.after),
        outcome=judgement.outcome.value,
        reasons=judgement.reasons,
        limits=asdict(limits),
        evidence=evidence,
    )
    return seal_profile(profile), files


def make_verification(
    look: Look, profile: Profile, who: Who, made_at: datetime, *, commissioning: float | None, limits: Limits
) -> tuple[Verification, Files]:
    """Hold a shot of the chart against a profile.

    Args:
        look: of the new shots, evened out by the profile's own flat field.
        profile: the profile.
        who: for the record.
        made_at: now.
        commissioning: mean CIEDE2000 of the profile when it was put into use; None before that.
        limits: the gates.

    Raises:
        VisitError: the shot is one the profile was fitted to, or of another chart.
    """
    # A single shot's light may fall off across the chart; the fit took that out, and so does this.
    one_shot = len(look.pictures) == 1
    examined = examine(profile.colour_model, look.patches.linear, look.reference, even_light=one_shot)
    judgement = judge_second_shot(examined.figures, look.patches, commissioning, limits)
    before = srgb_to_lab(look.raw)
    evidence, files = _evidence(look, f"the verification of {made_at:%d %B %Y}")
    verification = Verification(
        profile_id=profile.profile_id,
        dermoscope_id=profile.dermoscope_id,
        operator=who.operator,
        made_at=made_at,
        software_version=who.software_version,
        illuminant=who.illuminant,
        chart=look.chart_used(who.target_serial),
        before=_figures(figures_of.measure(before, look.reference)),
        after=_figures(examined.figures),
        commissioning=commissioning,
        patches=_patches(look, before, examined),
        limits=asdict(limits),
        verdict=VERDICTS[judgement.outcome],
        reasons=(*judgement.reasons, *_other_light(profile, who)),
        evidence=evidence,
    )
    return seal_verification(verification), files


def check_second_shot(pictures: Sequence[Picture], profile: Profile, order: Order) -> None:
    """Whether shots can tell anything new of a profile.

    Raises:
        VisitError: one of them was fitted to; or another chart was; or the camera's setting was another.
    """
    fitted = {shot.sha256 for shot in profile.chart.shots}
    for picture in pictures:
        if picture.sha256 in fitted:
            raise VisitError(
                f"{picture.path.name} is the very shot that {profile.profile_id} was fitted to, and proves "
                "nothing: lift "
                "the dermoscope, put it down again, and take a second shot of the chart."
            )
        if not profile.fits(*picture.size):
            width, height = profile.size
            raise VisitError(
                f"{picture.path.name} is {picture.size[0]}×{picture.size[1]}, of another shape than the "
                f"{width}×{height} "
                "of the fit: set the camera as it was then and shoot again."
            )
    if order.reference.name != profile.chart.reference:
        raise VisitError(
            f"The profile was fitted to the chart {profile.chart.reference!r}: verify with the same (give its "
            "file with "
            "--target, as for the fit)."
        )


def _other_light(profile: Profile, who: Who) -> tuple[str, ...]:
    if who.illuminant == profile.illuminant:
        return ()
    return (f"The profile was made in another light ({profile.illuminant}) than this shot ({who.illuminant}).",)


def _figures(value: figures_of.Figures) -> Figures:
    return Figures(
        **{name: round(number, 4) for name, number in asdict(value).items()},
    )


def _patches(look: Look, before: Floats, after: Examination) -> tuple[PatchResult, ...]:
    reference = look.reference
    off = figures_of.differences(before, reference)
    rows = zip(reference.patch_names, reference.lab_d50, before, after.lab, off, after.difference, strict=True)
    return tuple(
        PatchResult(
            name=name,
            place=place,
            reference_lab=_triple(lab),
            before_lab=_triple(raw),
            after_lab=_triple(corrected),
            before=round(float(first), 4),
            after=round(float(second), 4),
        )
        for place, (name, lab, raw, corrected, first, second) in enumerate(rows)
    )


def _triple(lab: Floats) -> tuple[float, float, float]:
    lightness, a, b = (round(float(value), 3) for value in np.asarray(lab))
    return lightness, a, b


def _evidence(look: Look, what: str) -> tuple[tuple[Evidence, ...], Files]:
    """The shots with their patches marked, as they are kept."""
    files: Files = {}
    kept: list[Evidence] = []
    for number, picture in enumerate(look.pictures):
        name = f"chart-{number + 1}.jpg"
        files[name] = kept_jpeg(look.drawn(number), small=len(look.pictures) > MANY_SHOTS)
        kept.append(Evidence(file=name, sha256=sha256(files[name]), caption=f"{picture.path.name}, for {what}"))
    return tuple(kept), files


def limits_from(overrides: Mapping[str, float]) -> Limits:
    """The gates with some of them set otherwise.

    Raises:
        ValueError: a gate that there is not, or values that contradict each other; a sentence.
    """
    known = asdict(Limits())
    unknown = [key for key in overrides if key not in known]
    if unknown:
        raise ValueError(f"there is no limit {unknown[0]!r}; there are {', '.join(known)}")
    return Limits(**{**known, **overrides})
