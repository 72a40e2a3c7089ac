"""The service's sandbox: how exposed systemd finds it, and the lines that must not be weakened by a drop-in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.patience import TooLong, program
from agent.doctor.place import UNIT, Place
from agent.exits import EXIT_CONFIG

MOST_EXPOSED: Final = 1.8
FOLDERS: Final = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""As systemd looks for units, the strongest first."""
_AGAIN: Final = "install the service again (sudo dermascan install), and remove drop-ins that nobody needs"
_OFF: Final = frozenset({"", "no", "false", "0", "off"})
_MUST: Final = {
    "NoNewPrivileges": "it may gain rights",
    "ProtectSystem": "it may write to the system",
    "ProtectHome": "it may read homes",
}


def look(place: Place) -> Iterator[Finding]:
    """The unit with its drop-ins, as systemd would read them."""
    files = unit_files(place.root, UNIT)
    if not files:
        yield skipped("The agent is not installed as a service.")
        return
    unit, *drop_ins = files
    names = f" ({', '.join(path.name for path in drop_ins)})" if drop_ins else ""
    found = list(_lines(read_unit(files)))
    exposure = measure(unit)
    if exposure is not None and exposure > MOST_EXPOSED:
        sentence = f"The service is more exposed than it should be: {exposure} where {MOST_EXPOSED} is allowed{names}."
        found.append(warning(sentence, _AGAIN))
    told = "is as it was installed" if exposure is None else f"has an exposure of {exposure}"
    yield from found or [ok(f"The sandbox {told}{names}.")]


def unit_files(root: Path, name: str) -> list[Path]:
    """A unit's file and then its drop-ins, in the order in which systemd reads them; empty where there is no unit."""
    unit = next((path for one in FOLDERS if (path := root / one / name).is_file()), None)
    if unit is None:
        return []
    # Of two drop-ins of one name, the one in the stronger folder counts.
    drop_ins = {path.name: path for one in reversed(FOLDERS) for path in (root / one / f"{name}.d").glob("*.conf")}
    return [unit, *(drop_ins[key] for key in sorted(drop_ins))]


def read_unit(files: Sequence[Path]) -> dict[str, list[str]]:
    """Values by their key, as systemd joins files: later ones are added, an empty one begins anew."""
    values: dict[str, list[str]] = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        for line in text.splitlines():
            if line.lstrip().startswith(("#", ";", "[")) or "=" not in line:
                continue
            key, _, value = (part.strip() for part in line.partition("="))
            if value:
                values.setdefault(key, []).append(value)
            else:
                values[key] = []
    return values


def measure(unit: Path) -> float | None:
    """What ``systemd-analyze security`` says, from 0 to 10; None where it cannot."""
    try:
        done = program(["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], 20.0)
    except TooLong:
        return None
    said = re.search(r"exposure level for \S+:? ([\d.]+)", done.stdout) if done is not None else None
    return float(said[1]) if said else None


def _lines(values: dict[str, list[str]]) -> Iterator[Finding]:
    def last(key: str) -> str:
        return (values.get(key) or [""])[-1]

    if last("User") in {"", "root", "0"}:
        yield failed("The service runs as root: whoever breaks into it has the whole device.", _AGAIN)
    for key, cost in _MUST.items():
        if last(key).lower() in _OFF:
            yield failed(f"The service's sandbox is open: {key} is off, so that {cost}.", _AGAIN)
    if str(EXIT_CONFIG) not in " ".join(values.get("RestartPreventExitStatus", [])).split():
        yield warning(
            f"With wrong settings the service is started again and again ({EXIT_CONFIG} is not named).", _AGAIN
        )
    if last("LimitCORE").partition(":")[0] != "0":
        yield warning(
            "When the service crashes, patients' data may be left in a core file (LimitCORE is not 0).", _AGAIN
        )


CHECK = Check(
    name="sandbox",
    title="Service's sandbox",
    looks_at="the unit and its drop-ins: exposure by systemd-analyze, user, rights, restarts, core files",
    why="Pictures come from outside; whoever breaks in with one must find nothing to take.",
    look=look,
    limit_s=40.0,
)
