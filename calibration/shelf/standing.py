"""What a dermoscope's calibration is worth now: valid, expired or none, and the sentence a person should read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from calibration.correction.apply import Corrector
from calibration.shelf.profile import Profile
from calibration.shelf.record import Active

CALIBRATE: Final = "ask for a calibration (dermascan calibrate)"
CLOCK_SLACK: Final = timedelta(days=1)


class State(str, Enum):
    """Whether pictures are corrected with a profile that holds."""

    VALID = "valid"
    EXPIRED = "expired"
    """There is a profile, and it is too old or was found to be off; it still corrects better than nothing."""
    NONE = "none"


@dataclass(frozen=True)
class Standing:
    """What a scan says of its colours."""

    state: State
    profile_id: str | None = None
    age_days: float | None = None
    """Since the profile was made; None where the clock cannot be believed."""
    sentences: tuple[str, ...] = ()
    """What a person should know; empty where all is well."""


@dataclass(frozen=True, eq=False)
class ActiveProfile:
    """The profile in use for a dermoscope, ready to correct with. Immutable: the shelf gives a new one on a change."""

    profile: Profile
    use: Active
    corrector: Corrector

    def state(self, now: datetime, trusted: bool = True) -> State:
        """``standing`` without the words."""
        return self.standing(now, trusted).state

    def standing(self, now: datetime, trusted: bool = True) -> Standing:
        """What the profile is worth.

        Args:
            now: wall time, with its zone.
            trusted: whether the clock can be right. Where it cannot, no age is told and nothing expires by it (F16).
        """
        return judge_standing(self.profile, self.use, now, trusted=trusted)


def judge_standing(profile: Profile, use: Active, now: datetime, *, trusted: bool) -> Standing:
    """What a profile in use is worth; see `ActiveProfile.standing`."""
    profile_id = profile.profile_id
    sentences: list[str] = []
    state, age = State.VALID, None
    seen = max(filter(None, (profile.created_at, use.activated_at, use.last_verified_at)))
    if not trusted or now < seen - CLOCK_SLACK:
        sentences.append(
            f"The device's clock cannot be right ({now:%d %B %Y}), so the age of the colour profile "
            f"{profile_id} is not "
            "known: connect the device to the network or set its clock."
        )
        # The clock may only understate: what was late when it last was right is late now.
        late = seen >= profile.expires_at
    else:
        age = max(0.0, (now - profile.created_at) / timedelta(days=1))
        late = now >= profile.expires_at
    if late:
        state = State.EXPIRED
        sentences.append(f"The colour profile {profile_id} expired on {profile.expires_at:%d %B %Y}: {CALIBRATE}.")
    if use.blocked_by is not None:
        state = State.EXPIRED
        sentences.append(
            f"The colour profile {profile_id} did not hold against the chart ({use.blocked_by}): {CALIBRATE}."
        )
    elif use.warning is not None:
        sentences.append(use.warning)
    if use.override is not None:
        sentences.append(
            f"The colour profile {profile_id} was put into use without a passing verification by "
            f"{use.override.name}: {use.override.reason}"
        )
    return Standing(state, profile_id, age, tuple(sentences))
