"""Which bundle runs, as a state machine whose whole state is one small value (F27).

A new bundle is a *candidate* that goes staged → verified → self-tested → provisional, and then becomes the *committed*
one. Only what was committed is ever something to go back to: a candidate whose way is interrupted, at whatever step,
stays a candidate or is given up, and can never become the rollback's target. Every function here takes the state and
gives the next one; ``engines.installed.ledger`` writes it down in one step.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.backend import BundleError

MAX_TRANSITIONS: Final = 8
"""Steps that one candidate may take: four are the straight way to provisional, the rest is for interruptions."""
MAX_TRIALS: Final = 3
"""Times the agent may begin to try a provisional bundle: one that ends the agent each time is given up in the end."""
KEPT_FAILURES: Final = 8


class Stage(str, Enum):
    """How far a candidate has come."""

    STAGED = "staged"
    """It lies in the models folder, whole."""
    VERIFIED = "verified"
    """Its signature, its hashes and, where there is one, its verification record were found good."""
    SELF_TESTED = "self-tested"
    """An engine on this device answered its golden image rightly."""
    PROVISIONAL = "provisional"
    """The agent may run it, beside the committed one, to which it goes back at the first doubt."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Installed(_Part):
    """One bundle, to the byte: the manifest's hash stands for every file in it."""

    bundle: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*/\d+\.\d+\.\d+$")]
    """``name/version``, its place in the models folder."""
    manifest_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Committed(_Part):
    """A bundle that has proved itself on this device."""

    installed: Installed
    verified_by: str
    """What its verification rests on, in words."""
    at: str
    """Wall time, ISO 8601; the clock may have been wrong."""


class Candidate(_Part):
    """A bundle on its way."""

    installed: Installed
    stage: Stage
    transitions: Annotated[int, Field(ge=1)]
    trials: Annotated[int, Field(ge=0)] = 0
    verified_by: str = ""


class Failure(_Part):
    """A candidate that was given up, and why."""

    installed: Installed
    stage: Stage
    reason: str
    at: str


class Activation(_Part):
    """The whole state."""

    schema_version: Literal[1] = 1
    committed: Committed | None = None
    """What runs, and what a provisional bundle goes back to."""
    previous: Committed | None = None
    """What was committed before: the target of ``engine rollback``."""
    candidate: Candidate | None = None
    failures: tuple[Failure, ...] = ()
    """The latest candidates that were given up, the newest last."""

    @property
    def active(self) -> Installed | None:
        """The committed bundle."""
        return self.committed.installed if self.committed else None

    @property
    def provisional(self) -> Installed | None:
        """The bundle on trial, if there is one."""
        candidate = self.candidate
        return candidate.installed if candidate and candidate.stage is Stage.PROVISIONAL else None

    def failure_of(self, installed: Installed) -> Failure | None:
        """The last time this very bundle was given up."""
        return next((failure for failure in reversed(self.failures) if failure.installed == installed), None)


class NotAllowed(BundleError):
    """The step is not one that the state allows. The message says what to do."""


def _amended(state: Activation, **changes: object) -> Activation:
    return state.model_copy(update=changes)


def stage(state: Activation, installed: Installed, *, again: bool = False) -> Activation:
    """Make a bundle the candidate; an older candidate is dropped, the committed bundle is not touched.

    The same bundle keeps its count of transitions, so that an activation that is begun over and over comes to an end.

    Args:
        state: as it is.
        installed: the bundle, which lies in the models folder.
        again: also where it was given up before.

    Raises:
        NotAllowed: it is committed already, or was given up before and ``again`` is not set.
    """
    before = state.candidate
    if installed == state.active and before is None:
        raise NotAllowed(f"{installed.bundle}: is active already")
    if not again:
        if installed == state.provisional:
            raise NotAllowed(
                f"{installed.bundle}: is provisional already: the agent tries it, or will when it is started"
            )
        if failure := state.failure_of(installed):
            raise NotAllowed(
                f"{installed.bundle}: was given up at {failure.at} when {failure.stage.value}: {failure.reason}; once"
                " the cause is mended, try it with --again, or install another version"
            )
    spent = before.transitions if before and before.installed == installed and not again else 0
    return _within_cap(state, Candidate(installed=installed, stage=Stage.STAGED, transitions=spent + 1))


def advance(state: Activation, installed: Installed, to: Stage, *, verified_by: str = "") -> Activation:
    """Take the candidate its next step.

    Raises:
        NotAllowed: another bundle has become the candidate meanwhile, the step is not the next one, or the candidate
            has taken too many.
    """
    candidate = state.candidate
    if candidate is None or candidate.installed != installed:
        raise NotAllowed(f"{installed.bundle}: another activation has taken its place; begin again")
    stages = list(Stage)
    if stages.index(to) != stages.index(candidate.stage) + 1:
        raise NotAllowed(f"{installed.bundle}: is {candidate.stage.value} and cannot become {to.value}; begin again")
    changes = {
        "stage": to,
        "transitions": candidate.transitions + 1,
        "verified_by": verified_by or candidate.verified_by,
    }
    return _within_cap(state, candidate.model_copy(update=changes))


def _within_cap(state: Activation, candidate: Candidate) -> Activation:
    if candidate.transitions > MAX_TRANSITIONS:
        raise NotAllowed(
            f"{candidate.installed.bundle}: its activation was begun and interrupted too often; find out why, then"
            " begin again with --again"
        )
    return _amended(state, candidate=candidate)


def try_provisional(state: Activation, at: str) -> Activation:
    """Count one more trial of the provisional bundle, before it is begun; after too many, give it up."""
    candidate = state.candidate
    if candidate is None or candidate.stage is not Stage.PROVISIONAL:
        return state
    if candidate.trials >= MAX_TRIALS:
        return give_up(state, candidate.installed, f"{MAX_TRIALS} trials of it ended without a result", at)
    return _amended(state, candidate=candidate.model_copy(update={"trials": candidate.trials + 1}))


def untry(state: Activation, installed: Installed) -> Activation:
    """Take a trial back that was ended in order, by whoever stopped the agent: it says nothing of the bundle."""
    candidate = state.candidate
    if candidate is None or state.provisional != installed or candidate.trials == 0:
        return state
    return _amended(state, candidate=candidate.model_copy(update={"trials": candidate.trials - 1}))


def commit(state: Activation, installed: Installed, at: str) -> Activation:
    """The provisional bundle has proved itself: it becomes the committed one, which becomes the previous one.

    Raises:
        NotAllowed: this bundle is not the provisional one (any more).
    """
    candidate = state.candidate
    if candidate is None or state.provisional != installed:
        raise NotAllowed(f"{installed.bundle}: is not the provisional bundle and cannot be committed")
    committed = Committed(installed=installed, verified_by=candidate.verified_by, at=at)
    previous = state.previous if state.active == installed else state.committed
    return _amended(state, committed=committed, previous=previous, candidate=None)


def give_up(state: Activation, installed: Installed, reason: str, at: str) -> Activation:
    """The candidate failed: it is dropped and remembered. Nothing changes where it is no longer the candidate."""
    candidate = state.candidate
    if candidate is None or candidate.installed != installed:
        return state
    failure = Failure(installed=installed, stage=candidate.stage, reason=reason, at=at)
    return _amended(state, candidate=None, failures=(*state.failures, failure)[-KEPT_FAILURES:])


def roll_back(state: Activation) -> Activation:
    """Go back: from a candidate to the committed bundle; without one, to the bundle that was committed before.

    Going back twice is going forward again: nothing is lost by it.

    Raises:
        NotAllowed: there is nothing to go back to.
    """
    if state.candidate is not None:
        return _amended(state, candidate=None)
    if state.previous is None:
        raise NotAllowed("no bundle was committed before this one: there is nothing to go back to")
    return _amended(state, committed=state.previous, previous=state.committed)
