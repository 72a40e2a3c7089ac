"""The whole agent for minutes or hours among random faults, and then the books: ``python -m benchmarks.soak``.

Captures in all the manners of cameras, broken ones, doubles, renames, sidecars and verdicts; the agent, its worker, the
broker and the cloud die and hang, the cable is pulled, the disk is full, the clock is wrong, others lock the database.
At the end everything is mended, and then every capture must have come to exactly one end, every event be with the cloud
exactly once. In the second half the agent itself is left alive, so that its memory can be watched.

Exit status: 0 all of it is so, 1 something is not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak.books import Findings, reconcile, right_answers, unsettled
from benchmarks.soak.captures import MOTIFS, Clinician, Dermoscope, Notes
from benchmarks.soak.faults import Faults
from benchmarks.soak.figures import Figures
from benchmarks.soak.report import report
from benchmarks.soak.scene import DISK_MB, DISK_MB_A_MINUTE, SoakScene

LOOK_S = 0.05
CUT_OFF_S = 30.0
"""In shorter runs every picture is completed."""
SETTLE_S = 180.0
"""For everything to come to its end once nothing breaks any more: a broker that was away is tried again within 60 s."""


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    seconds: float
    seed: int = 1
    capture_every_s: float = 1.5
    """On average, of each of the two dermoscopes."""
    fault_every_s: float = 5.0
    verdict_every_s: float = 8.0
    motifs: int = MOTIFS
    fault_length: float = 1.0
    """Of what goes on for a while, as a share of what is usual."""
    settle_s: float = SETTLE_S


@dataclass(frozen=True)
class Soaked:
    """What became of it."""

    plan: Plan
    notes: Notes
    faults: Faults
    figures: Figures
    found: Findings
    ready_s: list[float]
    lives: int
    settled_s: float | None
    """From the end of the last fault until everything had come to its end; None: it did not in time."""
    exit_code: int
    """Of the agent, when it was told to end."""
    log_bytes: int

    @property
    def wrong(self) -> list[str]:
        """All that may not be; empty where everything is as it has to be."""
        wrong = [*self.found.wrong, *self.figures.growth()]
        if self.settled_s is None:
            wrong.insert(0, f"not everything came to its end within {self.plan.settle_s:.0f} s")
        if self.exit_code:
            wrong.append(f"the agent ended with {self.exit_code} when it was told to end")
        return wrong


def soak(plan: Plan, folder: Path) -> Soaked:
    """Do it; everything lies in ``folder`` afterwards, but for a state folder on a disk of its own."""
    rng, notes, figures = random.Random(plan.seed), Notes(), Figures()
    with SoakScene(folder, disk_mb=DISK_MB + round(DISK_MB_A_MINUTE * plan.seconds / 60)) as scene:
        scopes = [
            Dermoscope(
                scope,
                plan.seed * 10 + number,
                plan.capture_every_s,
                notes,
                plan.motifs,
                cut_off=plan.seconds > CUT_OFF_S,
            )
            for number, scope in enumerate(scene.scopes)
        ]
        right = right_answers(scopes, folder / "motifs")
        clinician = Clinician(scene.state, scene.config, plan.seed, plan.verdict_every_s, notes)
        faults = Faults(scene, scopes, rng, plan.fault_every_s, plan.fault_length)
        people = [*scopes, clinician]
        scene.agent.start()
        for person in people:
            person.start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < plan.seconds:
            faults.look(kill_agent=passed < plan.seconds / 2)
            scene.agent.look()
            figures.look(scene)
            so_far = f"{len(notes.written)} captures, {sum(faults.counts.values())} faults"
            _show(f"{passed:4.0f} of {plan.seconds:.0f} s, {so_far}")
            time.sleep(LOOK_S)
        faults.heal()
        for person in people:
            person.stop()
        settled_s = _settle(scene, notes, faults, plan.settle_s)
        _show("")
        code = scene.agent.stop()
        scene.stop_cloud()
        log_bytes = sum(life.log.stat().st_size for life in scene.agent.lives)
        found = reconcile(scene, notes, right)
        ready_s = list(scene.agent.ready_s.values())
        return Soaked(plan, notes, faults, figures, found, ready_s, len(scene.agent.lives), settled_s, code, log_bytes)


def _settle(scene: SoakScene, notes: Notes, faults: Faults, most_s: float) -> float | None:
    began = time.monotonic()
    while (left := unsettled(scene, notes)) is not None:
        passed = time.monotonic() - began
        if passed > most_s:
            print(f"\nstill to come after {passed:.0f} s: {left}", file=sys.stderr)
            return None
        faults.heal()
        scene.agent.look()
        _show(f"settling {passed:.0f} s: {left}")
        time.sleep(0.2)
    return time.monotonic() - began


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults (%(default)s); settling comes after")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (%(default)s)")
    parser.add_argument("--capture-every", type=float, default=1.5, metavar="S", help="on average (%(default)s)")
    parser.add_argument("--fault-every", type=float, default=5.0, metavar="S", help="the same (%(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there and leave logs and ledger there")
    arguments = parser.parse_args()
    plan = Plan(arguments.minutes * 60.0, arguments.seed, arguments.capture_every, arguments.fault_every)
    with tempfile.TemporaryDirectory(prefix="dermascan-soak-", ignore_cleanup_errors=True) as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        soaked = soak(plan, folder)
    text = report(soaked)
    print(text)
    if arguments.report is not None:
        arguments.report.write_text(text, encoding="utf-8")
    return 1 if soaked.wrong else 0
