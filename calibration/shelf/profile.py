"""A dermoscope's colour profile: an immutable, sealed JSON document with a gain map beside it."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from calibration.correction.colour_model import ColourModel
from calibration.correction.flatfield import GainMap
from calibration.shelf.files import SEAL, ShelfError, as_text, read_json, seal_of, sha256

SCHEMA_VERSION: Final = 1
MAX_AGE_DAYS: Final = 30
PROFILE_NAME: Final = "profile.json"
GAIN_NAME: Final = "gain.npy"
FIT_AGAIN: Final = (
    "fit a new profile (dermascan calibrate fit), or go back to an earlier one (dermascan calibrate rollback)"
)

Identifier: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
FileName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Triple: TypeAlias = tuple[float, float, float]
DeltaE: TypeAlias = Annotated[float, Field(ge=0.0)]
Outcome: TypeAlias = Literal["pass", "marginal", "fail"]


class ProfileError(ShelfError):
    """A profile cannot be used: one sentence with the file, what is wrong and what to do."""


class Part(BaseModel):
    """What every document on the shelf has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shot(Part):
    """A picture that was measured."""

    file: str
    """Its name, for people; the hash says which it was."""
    sha256: Sha256
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class ChartUsed(Part):
    """Which chart lay before the dermoscope, and how it was found."""

    reference: Name
    """Which colours it was judged against."""
    kind: Name
    rows: Annotated[int, Field(gt=0)]
    columns: Annotated[int, Field(gt=0)]
    target_serial: str | None = None
    found_by: Name
    shots: Annotated[tuple[Shot, ...], Field(min_length=1)]


class FlatField(Part):
    """The gain map, and what it was made from."""

    file: FileName = GAIN_NAME
    sha256: Sha256
    rows: Annotated[int, Field(gt=0)]
    columns: Annotated[int, Field(gt=0)]
    lowest: float
    highest: float
    frames: Annotated[tuple[Shot, ...], Field(min_length=1)]
    made_at: AwareDatetime


class Figures(Part):
    """How far colours are from the chart's, in CIEDE2000, over all patches."""

    mean: DeltaE
    p95: DeltaE
    max: DeltaE
    grey_chroma: DeltaE
    """How coloured the grey patches come out: mean C*ab of those."""


class PatchResult(Part):
    """One patch: what it should be, what the camera gave, what the profile makes of it. Lab is D50, 2 degrees."""

    name: Name
    place: Annotated[int, Field(ge=0)]
    """Its index in the reference, in rows from the top left."""
    reference_lab: Triple
    before_lab: Triple
    after_lab: Triple
    before: DeltaE
    """Difference without the profile, CIEDE2000."""
    after: DeltaE


class Evidence(Part):
    """A picture kept for the report."""

    file: FileName
    sha256: Sha256
    caption: str


class Profile(Part):
    """The whole document. ``sha256`` seals everything but itself and the id, and the id is made from it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    profile_id: Identifier = ""
    sha256: str = ""
    dermoscope_id: Identifier
    operator: Name
    created_at: AwareDatetime
    expires_at: AwareDatetime
    software_version: str
    illuminant: Name
    chart: ChartUsed
    flat_field: FlatField | None
    model: dict[str, Any]
    """As ``ColourModel.as_plain`` gives it."""
    shape: Name
    """The model in words."""
    before: Figures
    in_sample: Figures
    leave_one_out: Figures
    patches: tuple[PatchResult, ...]
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    limits: dict[str, float]
    evidence: tuple[Evidence, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures it was made from."""
        return self.chart.shots[0].width, self.chart.shots[0].height

    def fits(self, width: int, height: int) -> bool:
        """Whether a picture has the shape the gain map was made for; its size does not matter, but its aspect does."""
        if self.flat_field is None:
            return True
        frame = self.flat_field.frames[0]
        return same_aspect((width, height), (frame.width, frame.height))

    @property
    def colour_model(self) -> ColourModel:
        """The model in use. Raises ValueError for what is none; ``load_profile`` has checked it."""
        return ColourModel.from_plain(self.model)


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) are of one shape, within the rounding of a halved picture."""
    return abs(first[0] * second[1] - first[1] * second[0]) <= 0.01 * first[0] * second[1]


def expiry(created_at: datetime, max_age_days: int = MAX_AGE_DAYS) -> datetime:
    """When a profile made then ends."""
    return created_at + timedelta(days=max_age_days)


def seal_profile(profile: Profile) -> Profile:
    """The profile with its hash and its id, as it goes to the shelf."""
    seal = _seal(profile.model_dump(mode="json"))
    return profile.model_copy(update={"sha256": seal, "profile_id": _id(profile.created_at, seal)})


def profile_bytes(profile: Profile) -> bytes:
    """A sealed profile as its file."""
    return as_text(profile.model_dump(mode="json"))


def load_profile(path: Path, dermoscope_id: str | None = None) -> Profile:
    """Read and check a profile.

    Args:
        path: the JSON file, or the folder it lies in.
        dermoscope_id: whose it must be, where that is known.

    Raises:
        ProfileError: missing, damaged, edited by hand, of another dermoscope, of newer software.
    """
    if path.is_dir():
        path = path / PROFILE_NAME
    try:
        content = read_json(path, "the profile", FIT_AGAIN)
    except ShelfError as error:
        raise ProfileError(str(error)) from error
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ProfileError(f"{path}: was made by newer software (format {version}); update this device's software.")
    if content.get(SEAL) != _seal(content):
        raise ProfileError(
            f"{path}: was changed after it was made (its hash does not fit), and is not used; {FIT_AGAIN}."
        )
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"{path}: {where}: {first['msg']}; the profile is damaged, {FIT_AGAIN}.") from error
    try:
        profile.colour_model  # noqa: B018 - only whether it is one
    except ValueError as error:
        raise ProfileError(f"{path}: its colour model cannot be used ({error}); {FIT_AGAIN}.") from error
    if profile.profile_id != _id(profile.created_at, profile.sha256):
        raise ProfileError(f"{path}: carries the id {profile.profile_id}, which is not its own; {FIT_AGAIN}.")
    if dermoscope_id is not None and profile.dermoscope_id != dermoscope_id:
        raise ProfileError(
            f"{path}: belongs to the dermoscope {profile.dermoscope_id}, not to {dermoscope_id}; "
            f"each dermoscope needs a profile of its own: name the right one (--dermoscope), or fit one for it."
        )
    return profile


def load_gain(profile: Profile, folder: Path) -> GainMap | None:
    """The profile's gain map; None where it has none. As ``read_gain``."""
    return read_gain(profile.flat_field, folder) if profile.flat_field is not None else None


def read_gain(flat: FlatField, folder: Path) -> GainMap:
    """A flat field's gain map from its folder.

    Raises:
        ProfileError: missing, damaged, of another size than it was, or changed.
    """
    path = folder / flat.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: the gain map cannot be read ({error.strerror}); {FIT_AGAIN}.") from error
    try:
        gain: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        if gain.shape[:2] == (flat.rows, flat.columns) and sha256(data) == flat.sha256:
            return GainMap(gain, (flat.frames[0].height, flat.frames[0].width))
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise ProfileError(f"{path}: the gain map is damaged; {FIT_AGAIN}.") from error
    if gain.shape[:2] != (flat.rows, flat.columns):
        found = "×".join(str(side) for side in gain.shape[1::-1])
        raise ProfileError(
            f"{path}: the gain map is {found} and not {flat.columns}×{flat.rows}, so it was made for another "
            f"profile; {FIT_AGAIN}."
        )
    raise ProfileError(f"{path}: the gain map was changed after it was made; {FIT_AGAIN}.")


def encode_gain(gain: GainMap) -> bytes:
    """A gain map as the bytes of an ``.npy`` file: float32 [rows, columns, 3]."""
    buffer = io.BytesIO()
    np.save(buffer, gain.gain, allow_pickle=False)
    return buffer.getvalue()


def _seal(content: dict[str, Any]) -> str:
    return seal_of(content, leave_out=("profile_id",))


def _id(created_at: datetime, seal: str) -> str:
    return f"cal-{created_at:%Y%m%d}-{seal[:8]}"
