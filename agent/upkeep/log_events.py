"""The catalogue of what the agent says in its log: a code for each thing that somebody may have to act on.

A code is an area and a word, and never changes its meaning; scripts and monitoring look for it instead of for a
sentence. What is not listed has the code ``<area>.other``. ``docs/log-events.md`` is made from this list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

AREAS: Final = (
    ("agent.records.keeping", "keeping"),
    ("agent.records", "records"),
    ("agent.intake", "intake"),
    ("agent.watching", "intake"),
    ("agent.answer", "answer"),
    ("agent.analysts", "answer"),
    ("agent.publish", "answer"),
    ("agent.sync", "sync"),
    ("agent.web", "page"),
    ("agent.access", "page"),
    ("agent.standards", "export"),
    ("agent.exporting", "export"),
    ("agent.model", "engine"),
    ("engines", "engine"),
    ("agent.upkeep.colour_watches", "calibration"),
    ("calibration", "calibration"),
    ("agent", "agent"),
)
"""By the beginning of a logger's name, the first that fits."""
OTHER: Final = "other"


@dataclass(frozen=True)
class LogEvent:
    """Something that may be said."""

    code: str
    logger: str
    start: str
    """How the sentence begins in the source, before anything is filled in."""
    remedy: str
    """What to do; empty where nothing is."""


EVENTS: Final = (
    LogEvent("agent.watching", "agent.commands", "watching %s", ""),
    LogEvent("agent.ready", "agent.upkeep.notify", "ready: an engine has passed", ""),
    LogEvent(
        "agent.no-engine", "agent.upkeep.notify", "no engine has passed", "dermascan doctor; captures wait meanwhile"
    ),
    LogEvent(
        "agent.wedged", "agent.upkeep.notify", "%s: no progress for", "none: the service manager restarts the agent"
    ),
    LogEvent("agent.reloaded", "agent.reload", "the settings were read again", ""),
    LogEvent("agent.not-reloaded", "agent.reload", "the settings are as they were", "mend the file, then reload again"),
    LogEvent("agent.needs-restart", "agent.reload", "%s changes at the next start", "restart the agent when it suits"),
    LogEvent(
        "agent.upkeep-broke-off", "agent.upkeep.rounds", "upkeep: a job broke off", "report it with the lines below"
    ),
    LogEvent("answer.answered", "agent.analysts", "scan %s answered", ""),
    LogEvent("answer.rejected", "agent.analysts", "scan %s rejected", "the scan's sentence says what to do"),
    LogEvent("answer.no-engine", "agent.analysts", "scan %s: no engine answered", "dermascan doctor"),
    LogEvent("answer.broke-off", "agent.analysts", "%s: the analysis broke off", "report it with the lines below"),
    LogEvent("answer.no-files", "agent.publish", "scan %s: its result files could not", "free disk space; they follow"),
    LogEvent("intake.paused", "agent.analysts", "%s", "raise [store] quota_mb, or free the disk"),
    LogEvent(
        "intake.folder-gone", "agent.intake.watch", "folder %s was removed", "mount the share, or make the folder again"
    ),
    LogEvent("intake.other-folder", "agent.intake.folder_identity", "another folder lies at", "the sentence says"),
    LogEvent(
        "intake.other-marker", "agent.intake.folder_identity", "%s carries the marker", "check [[dermoscope]] folder"
    ),
    LogEvent("intake.watch-died", "agent.watching", "the watch of %s died", "none: it starts again"),
    LogEvent("intake.gone", "agent.watching", "scan %s rejected: its file is gone", "take the picture again"),
    LogEvent("records.full", "agent.records.writer", "the store is full", "raise [store] quota_mb, or free the disk"),
    LogEvent("records.locked", "agent.records.writer", "the database is locked", "end the program that holds it"),
    LogEvent(
        "records.unusable", "agent.records.writer", "the database cannot be used", "check the disk; restart the agent"
    ),
    LogEvent("records.damaged", "agent.records.opening", "%s is damaged", "check the disk; see docs/database.md"),
    LogEvent("records.salvaged", "agent.records.opening", "%s: carried over", "look into state_dir/quarantine"),
    LogEvent("records.log-grows", "agent.records.checkpoint", "checkpoint blocked", "end the program that reads it"),
    LogEvent("records.refused-order", "agent.records.spool", "%s cannot be done", "state_dir/spool/refused says why"),
    LogEvent(
        "records.tampered", "agent.records.sealing", "%s of %s: was changed", "find out who wrote to the database"
    ),
    LogEvent("keeping.damaged", "agent.records.keeping.integrity", "%s", "restart the agent, or restore a backup"),
    LogEvent("keeping.given-up", "agent.records.keeping.retention", "given up: %s", ""),
    LogEvent("keeping.no-room", "agent.records.keeping.retention", "%s", "raise [store] quota_mb, or free the disk"),
    LogEvent("keeping.clock", "agent.records.keeping.retention", "nothing is given up for its age", "set the clock"),
    LogEvent(
        "keeping.erased", "agent.records.keeping.erasing", "a patient was erased", "make a backup: dermascan backup"
    ),
    LogEvent("keeping.sealed", "agent.records.keeping.keeper", "patient fields: all", ""),
    LogEvent("sync.connected", "agent.sync.publisher", "connected to", ""),
    LogEvent(
        "sync.no-connection", "agent.sync.publisher", "no connection to the cloud", "dermascan doctor; nothing is lost"
    ),
    LogEvent("sync.dead-letter", "agent.sync.courier", "event %s (%s) is given up", "dermascan queue dead"),
    LogEvent(
        "sync.not-understood", "agent.sync.inbox", "a message on %s was not understood", "tell who runs the cloud side"
    ),
    LogEvent(
        "sync.access-list", "agent.sync.publisher", "the broker refuses", "allow the topics in the broker's access list"
    ),
    LogEvent("page.at", "agent.web.opening", "the page and the interface are at", ""),
    LogEvent("page.none", "agent.web.opening", "there is no page", "the sentence says"),
    LogEvent("page.nobody-let-in", "agent.web.gate", "nobody is let in", "the sentence says"),
    LogEvent("page.refused", "agent.web.gate", "somebody was not let in", "often: look who tries"),
    LogEvent("page.broke-off", "agent.web.shell", "a request broke off", "report it"),
    LogEvent("engine.ready", "engines.supervisor", "%s: ready", ""),
    LogEvent("engine.failed", "engines.supervisor", "%s: %s; failure", "dermascan doctor; the next rung answers"),
    LogEvent("engine.model-changed", "agent.model", "%s answers from now on", ""),
    LogEvent("engine.model-given-up", "agent.model", "%s is given up", "dermascan engine list says why"),
    LogEvent("export.trouble", "agent.standards.folder", "export: %s", "the sentence says"),
    LogEvent("calibration.drift", "agent.upkeep.colour_watches", "dermoscope %s: %s", "calibrate the dermoscope again"),
)

LATER: Final = frozenset({"agent.reload"})
"""Loggers whose sentences are built from parts, so that the source does not show how they begin."""


@cache
def code_of(logger: str, template: str) -> str:
    """The code of a sentence, by who says it and how it begins before anything is filled in."""
    for event in EVENTS:
        # A template that is all filled in ("%s") is known by its logger alone.
        fits = template.startswith(event.start) if event.start != "%s" else re.fullmatch(r"%s( \(.*)?", template)
        if event.logger == logger and fits:
            return event.code
    return f"{area_of(logger)}.{OTHER}"


def area_of(logger: str) -> str:
    """The area that a logger belongs to."""
    return next((area for start, area in AREAS if logger == start or logger.startswith(f"{start}.")), OTHER)


def page() -> str:
    """The catalogue as ``docs/log-events.md``."""
    lines = [
        "# What the agent says in its log",
        "",
        "Each line is `[code] who: sentence`; in the journal with its priority, so that `journalctl -u dermascan-agent",
        "-p warning` shows what somebody should look at, and `journalctl -u dermascan-agent -g 'records.full'` one",
        "kind. A code never changes its meaning. What is not listed has the code `<area>.other`. This page is made",
        "from `agent/upkeep/log_events.py`.",
        "",
        "A sentence that comes again and again is held back after a few lines, and counted: `(held back: 994 more like",
        "this)` comes with the next one, or after a minute. No line holds the name of a capture, and none names a",
        "patient: what stands for the name, `file-3f2a91c0.jpg`, is the same for the same file.",
        "",
        "| code | begins with | what to do |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{one.code}` | {one.start} | {one.remedy or 'nothing'} |"
        for one in sorted(EVENTS, key=lambda one: one.code)
    ]
    return "\n".join(lines) + "\n"
