"""Holds what was written against what the device and the cloud say of it: each capture one end, each event once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from agent.messages.catalogue import FEEDBACK, RESULT
from benchmarks.soak.captures import Dermoscope, Notes
from benchmarks.soak.scene import SoakScene
from benchmarks.sync.scene import Books, read_books

SAME: Final = 1e-4
"""Of a probability: one picture's answers differ by less, whichever process and batch gave them."""
OWN_FAULTS: Final = frozenset({"crashed_analysis", "engine_failed"})
"""Refusals of a good picture that are meant: it was being analysed at three deaths in a row."""


@dataclass
class Findings:
    """What the books say. ``wrong`` is what may not be."""

    captures: int = 0
    answered: int = 0
    refused: int = 0
    by_death: int = 0
    """Good pictures refused after so many deaths in their analysis, as is meant."""
    verdicts: int = 0
    events: Books | None = None
    slimmed: int = 0
    """Acknowledged events whose bytes were given up for want of room, as is meant."""
    latencies_ms: list[float] = field(default_factory=list)
    """Of the answers, in their order, as they say themselves."""
    waits_s: list[float] = field(default_factory=list)
    """From a file's close to its result file, outages and all, in the order of the captures."""
    wrong: list[str] = field(default_factory=list)


def right_answers(scopes: list[Dermoscope], folder: Path) -> dict[str, dict[str, float]]:
    """What the engine says of each motif when nothing goes wrong, by the motif's name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for scope in scopes:
        for name, exposure in scope.motifs.items():
            file = folder / f"{name.replace('/', '-')}.jpg"
            file.write_bytes(exposure.data)
            files[str(file)] = name
    command = [sys.executable, "-m", "agent.cli", "analyze", "--json", *files]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    return {files[line["path"]]: line["diagnosis"]["all_classes"] for line in lines}


def unsettled(scene: SoakScene, notes: Notes) -> str | None:
    """What still has to come, in words; None where nothing has."""
    try:
        with _reading(scene.state / "dermascan.db") as device:
            ended = device.execute("SELECT count(*) FROM scans WHERE state <> 'received'").fetchone()[0]
            filed = device.execute("SELECT count(*) FROM scans WHERE files_written = 1").fetchone()[0]
            verdicts = device.execute("SELECT count(*) FROM verdicts").fetchone()[0]
            waiting = device.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()[0]
    except sqlite3.Error as error:
        return f"the database: {error}"
    found = {
        f"{len(notes.written) - ended} captures without an end": len(notes.written) - ended,
        f"{ended - filed} scans without their files": ended - filed,
        f"{len(notes.verdicts) - verdicts} verdicts in the spool": len(notes.verdicts) - verdicts,
        f"{waiting} events in the outbox": waiting,
    }
    return ", ".join(text for text, count in found.items() if count) or None


def reconcile(scene: SoakScene, notes: Notes, right: Mapping[str, Mapping[str, float]]) -> Findings:
    """Compare everything; all processes have ended."""
    found = Findings(captures=len(notes.written))
    with _reading(scene.state / "dermascan.db") as device:
        scans = [dict(row) for row in device.execute("SELECT * FROM scans ORDER BY seq")]
        outbox = [dict(row) for row in device.execute("SELECT event_id, scan_id, type, state FROM outbox")]
        verdicts = Counter(row["verdict_id"] for row in device.execute("SELECT verdict_id FROM verdicts"))
    check_captures(found, scans, notes, right)
    _files(found, scene, scans, notes)
    _once(found, "scan without exactly one result event in the outbox", _of(outbox, RESULT.type), scans)
    books = read_books(scene.state, scene.ledger)
    with _reading(scene.state / "dermascan.db") as device:
        gone = "SELECT count(*) FROM outbox WHERE seq NOT IN (SELECT seq FROM outbox_events)"
        found.slimmed = device.execute(gone).fetchone()[0]
    found.events = replace(books, changed=books.changed - found.slimmed)
    if found.events.lost or found.events.twice or found.events.changed or found.events.waiting or found.events.dead:
        found.wrong.append(f"the outbox and the cloud's ledger differ: {found.events}")
    with _reading(scene.ledger) as cloud:
        heard = [dict(row) for row in cloud.execute("SELECT subject AS scan_id, type, event FROM events")]
    _once(found, "scan without exactly one event in the cloud", _of(heard, RESULT.type), scans)
    found.verdicts = len(notes.verdicts)
    told = Counter(json.loads(row["event"])["data"]["verdict_id"] for row in heard if row["type"] == FEEDBACK.type)
    for where, counted in (("on the device", verdicts), ("in the cloud", told)):
        _differ(found, f"verdicts {where}", Counter(notes.verdicts.keys()), counted)
    return found


def check_captures(
    found: Findings, scans: list[dict[str, Any]], notes: Notes, right: Mapping[str, Mapping[str, float]]
) -> None:
    """Each capture one scan, with the right end."""
    _differ(found, "captures", Counter(notes.written.keys()), Counter(scan["image_sha256"] for scan in scans))
    for scan in scans:
        written = notes.written.get(scan["image_sha256"] or "")
        if written is None:
            continue
        result = json.loads(scan["result"]) if scan["result"] else {}
        found.answered += scan["state"] == "answered"
        found.refused += scan["state"] == "rejected"
        if scan["state"] == "received":
            found.wrong.append(f"{written.path.name} ({written.manner}): came to no end")
        elif written.motif is None and scan["state"] == "answered":
            found.wrong.append(f"{written.path.name} ({written.manner}): no whole picture, and was answered")
        elif written.motif is not None and scan["state"] == "rejected":
            if scan["reason"] in OWN_FAULTS:
                found.by_death += 1
            else:
                found.wrong.append(f"{written.path.name} ({written.manner}): refused, {scan['reason']}")
        elif written.motif is not None:
            found.latencies_ms.append(result["latency_ms"])
            said, expected = result["diagnosis"]["all_classes"], right[written.motif]
            if max(abs(said[name] - expected[name]) for name in expected) > SAME:
                found.wrong.append(f"{written.path.name}: a wrong answer, {said} instead of {expected}")


def _files(found: Findings, scene: SoakScene, scans: list[dict[str, Any]], notes: Notes) -> None:
    results, expected = scene.state / "results", set()
    for scan in scans:
        names = [f"{scan['scan_id']}.json", *([f"{scan['scan_id']}.png"] if scan["state"] == "answered" else [])]
        expected.update(names)
        for name in names:
            if not (results / name).exists():
                found.wrong.append(f"{name}: is not there, and its scan is {scan['state']} ({scan['finished_at']})")
                break
        else:
            _look_into(found, results, scan, notes)
    if more := {path.name for path in results.iterdir()} - expected:
        found.wrong.append(f"{len(more)} files in results/ that belong to no scan: {sorted(more)[:3]}")


def _look_into(found: Findings, results: Path, scan: dict[str, Any], notes: Notes) -> None:
    file = results / f"{scan['scan_id']}.json"
    try:
        said = json.loads(file.read_bytes())
        if said["image_sha256"] != scan["image_sha256"] or said["scan_id"] != scan["scan_id"]:
            found.wrong.append(f"{file.name}: is another scan's")
    except (ValueError, KeyError) as error:
        found.wrong.append(f"{file.name}: is not whole, {error!r}")
        return
    if scan["state"] == "answered":
        picture = np.frombuffer(file.with_suffix(".png").read_bytes(), np.uint8)
        if cv2.imdecode(picture, cv2.IMREAD_COLOR) is None:
            found.wrong.append(f"{file.stem}.png: is not whole")
    written = notes.written.get(scan["image_sha256"] or "")
    if written is None:
        return
    found.waits_s.append(file.stat().st_mtime - written.closed)
    patient = said.get("patient_id")
    if patient != written.patient and not (patient is None and written.path in notes.renamed):
        found.wrong.append(f"{file.name}: patient {patient} instead of {written.patient}")


def _of(rows: list[dict[str, Any]], kind: str) -> Counter[str]:
    return Counter(row["scan_id"] for row in rows if row["type"] == kind)


def _once(found: Findings, what: str, counted: Counter[str], scans: list[dict[str, Any]]) -> None:
    wrong = [scan["scan_id"] for scan in scans if counted[scan["scan_id"]] != 1]
    if wrong:
        found.wrong.append(f"{len(wrong)} × {what}: {wrong[:3]}")


def _differ(found: Findings, what: str, expected: Counter[str], counted: Counter[str]) -> None:
    for word, there in (("missing", expected - counted), ("too many", counted - expected)):
        if there:
            found.wrong.append(f"{what}: {sum(there.values())} {word}: {sorted(there)[:3]}")


def _reading(path: Path) -> closing[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return closing(connection)
