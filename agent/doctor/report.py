"""What the doctor tells: one JSON object, or lines for people that can be read out on the telephone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from agent import __version__
from agent.doctor.examination import Examination
from agent.doctor.finding import Finding, Outcome

WORDS: Final = {
    Outcome.OK: "ok",
    Outcome.WARNING: "WARNING",
    Outcome.FAILED: "FAILED",
    Outcome.SKIPPED: "skipped",
}


def as_json(examination: Examination, mended: Sequence[str] = ()) -> dict[str, Any]:
    """All of it."""
    return {
        "format": 1,
        "device_id": examination.device,
        "software_version": __version__,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "exit_code": examination.exit_code,
        "counts": {outcome.value: examination.count(outcome) for outcome in Outcome},
        "mended": list(mended),
        "findings": [{"title": examination.title(finding), **finding.told()} for finding in examination.findings],
        "took_s": round(examination.took_s, 2),
    }


def troubles(examination: Examination) -> list[Finding]:
    """What something is to be done about, the worst first; this is also how they are numbered."""
    bad = [one for one in examination.findings if one.outcome in {Outcome.FAILED, Outcome.WARNING}]
    return sorted(bad, key=lambda finding: finding.outcome is not Outcome.FAILED)


def summary(examination: Examination) -> str:
    """One line."""
    failed, warnings = examination.count(Outcome.FAILED), examination.count(Outcome.WARNING)
    if not failed and not warnings:
        return "All is well."
    told = [f"{failed} failed"] if failed else []
    told += ["1 warning" if warnings == 1 else f"{warnings} warnings"] if warnings else []
    return f"{' and '.join(told)}. Read the numbers below to whoever helps you."


def lines(examination: Examination, mended: Sequence[str] = ()) -> Iterator[str]:
    """As plain text, for a file or a pipe: the same words in the same order as at a terminal."""
    yield heading(examination)
    width = max((len(examination.title(finding)) for finding in examination.findings), default=0)
    for finding in examination.findings:
        yield f"{WORDS[finding.outcome]:8} {examination.title(finding):{width}}  {finding.sentence}"
    for sentence in mended:
        yield f"{'mended':8} {sentence}"
    yield summary(examination)
    for number, finding in enumerate(troubles(examination), 1):
        yield ""
        yield f"{number}. {WORDS[finding.outcome]}: {examination.title(finding)}. {finding.sentence}"
        yield f"   Why it matters: {finding.why}"
        yield f"   What to do: {finding.remedy}"
        if finding.fixable:
            yield "   Or let the doctor do it: sudo dermascan doctor --fix"


def heading(examination: Examination) -> str:
    """Which device, which software, when."""
    device = f"device {examination.device}, " if examination.device else ""
    return f"DermaScan doctor: {device}version {__version__}, {datetime.now(timezone.utc):%d %B %Y %H:%M} UTC"
