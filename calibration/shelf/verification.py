"""A verification: a second shot of the chart, seen through a profile, and whether the profile still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import AwareDatetime, ValidationError

from calibration.shelf.files import SEAL, ShelfError, as_text, read_json, seal_of
from calibration.shelf.profile import ChartUsed, Evidence, Figures, Identifier, Name, Part, PatchResult

SCHEMA_VERSION: Final = 1
VERIFY_AGAIN: Final = "verify again with a new shot of the chart (dermascan calibrate verify)"

Verdict: TypeAlias = Literal["pass", "warn", "block"]


class Verification(Part):
    """The whole document, sealed as a profile is."""

    schema_version: Literal[1] = SCHEMA_VERSION
    verification_id: Identifier = ""
    sha256: str = ""
    profile_id: Identifier
    dermoscope_id: Identifier
    operator: Name
    made_at: AwareDatetime
    software_version: str
    illuminant: Name
    chart: ChartUsed
    before: Figures
    """The shot as the camera gave it."""
    after: Figures
    """The shot through the profile."""
    commissioning: float | None
    """Mean CIEDE2000 that ``after.mean`` is held against; None for the shot that lets a profile be activated."""
    patches: tuple[PatchResult, ...]
    limits: dict[str, float]
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def rise(self) -> float | None:
        """Mean CIEDE2000 above commissioning."""
        return None if self.commissioning is None else self.after.mean - self.commissioning

    @property
    def reshot(self) -> bool:
        """Whether the profile was in use before; else this is the second shot that lets it be activated."""
        return self.commissioning is not None

    @property
    def passed(self) -> bool:
        """Whether the profile may be used after it; a warning passes."""
        return self.verdict != "block"


def seal_verification(verification: Verification) -> Verification:
    """The verification with its hash and its id, as it goes to the shelf."""
    seal = seal_of(verification.model_dump(mode="json"), leave_out=("verification_id",))
    made = f"ver-{verification.made_at:%Y%m%d}-{seal[:8]}"
    return verification.model_copy(update={"sha256": seal, "verification_id": made})


def verification_bytes(verification: Verification) -> bytes:
    """A sealed verification as its file."""
    return as_text(verification.model_dump(mode="json"))


def load_verification(path: Path) -> Verification:
    """Read and check a verification.

    Raises:
        ShelfError: missing, damaged, edited by hand.
    """
    content = read_json(path, "the verification", VERIFY_AGAIN)
    if content.get(SEAL) != seal_of(content, leave_out=("verification_id",)):
        raise ShelfError(
            f"{path}: was changed after it was made (its hash does not fit), and does not count; {VERIFY_AGAIN}."
        )
    try:
        return Verification.model_validate(content)
    except ValidationError as error:
        raise ShelfError(f"{path}: the verification is damaged; {VERIFY_AGAIN}.") from error
