"""What a check finds: an outcome, a sentence that can be read out on the telephone, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from agent.doctor.place import Place

LIMIT_S: Final = 15.0


class Outcome(str, Enum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    """Captures are answered; somebody should look at it soon."""
    FAILED = "failed"
    """Captures may not be answered, or something is not safe."""
    SKIPPED = "skipped"
    """There was nothing to look at, or it could not be looked at."""


class Kind(str, Enum):
    """What the doctor may do by itself: nothing that loses data, and nothing that lets anybody do more."""

    CHMOD = "chmod"
    MAKE_FOLDER = "make folder"
    REMOVE = "remove"


@dataclass(frozen=True)
class Mend:
    """How a fault is mended."""

    kind: Kind
    path: str
    mode: int = 0
    """Of ``CHMOD``: what may be left of the mode, nothing is ever added. Of ``MAKE_FOLDER``: the new folder's."""

    @property
    def command(self) -> str:
        """The same at a shell."""
        path = shlex.quote(self.path)
        return {
            Kind.CHMOD: f"chmod {self.mode:o} {path}",
            Kind.MAKE_FOLDER: f"mkdir -p {path}",
            Kind.REMOVE: f"rm -r {path}",
        }[self.kind]


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    check: str
    outcome: Outcome
    sentence: str
    why: str = ""
    """Why it matters."""
    remedy: str = ""
    """What to do; empty where all is well."""
    mend: Mend | None = None

    @property
    def fixable(self) -> bool:
        """Whether ``--fix`` mends it."""
        return self.mend is not None

    def told(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "check": self.check,
            "outcome": self.outcome.value,
            "sentence": self.sentence,
            "why": self.why,
            "remedy": self.remedy,
            "fixable": self.fixable,
        }


def ok(sentence: str) -> Finding:
    """All is well. ``Check.findings`` fills in what is the same for all of its findings."""
    return Finding("", Outcome.OK, sentence)


def skipped(sentence: str) -> Finding:
    """There was nothing to look at."""
    return Finding("", Outcome.SKIPPED, sentence)


def warning(sentence: str, remedy: str, mend: Mend | None = None) -> Finding:
    """Somebody should look at it soon."""
    return Finding("", Outcome.WARNING, sentence, remedy=remedy, mend=mend)


def failed(sentence: str, remedy: str, mend: Mend | None = None) -> Finding:
    """It does not work, or is not safe."""
    return Finding("", Outcome.FAILED, sentence, remedy=remedy, mend=mend)


def in_two(text: str, otherwise: str) -> tuple[str, str]:
    """A sentence like ``what is wrong; what to do`` in its two parts; ``otherwise``: where it has only one."""
    what, _, remedy = " ".join(text.split()).partition("; ")
    return what, remedy or otherwise


@dataclass(frozen=True)
class Check:
    """One thing that the doctor looks at. It may hang, crash or raise: it runs in a process and a thread of its own."""

    name: str
    title: str
    looks_at: str
    why: str
    look: Callable[[Place], Iterable[Finding]] = field(repr=False)
    limit_s: float = LIMIT_S
    """After this it is taken for hung."""
    hung: str = "restart the device; if it comes again, send a support bundle (dermascan support-bundle)"
    """What to do then."""
    needs_settings: bool = True

    def findings(self, place: Place) -> list[Finding]:
        """Look; never raises."""
        try:
            if self.needs_settings and place.settings is None:
                found = [skipped("Not looked at: the settings cannot be used.")]
            else:
                found = list(self.look(place))
        except Exception as error:  # noqa: BLE001 - one check that breaks must not keep the others from being told
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            found = [failed(f"This check itself broke off ({text}).", "send a support bundle and tell what you did")]
        return [replace(one, check=self.name, why=self.why) for one in found]

    def silent(self) -> Finding:
        """What is said where it gave no answer in time."""
        sentence = f"It gave no answer within {self.limit_s:.0f} seconds."
        return Finding(self.name, Outcome.FAILED, sentence, self.why, self.hung)
