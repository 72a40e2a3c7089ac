"""The service: whether the agent runs, and how often it had to be started again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.doctor.finding import Check, Finding, failed, ok, warning
from agent.doctor.patience import program
from agent.doctor.place import UNIT, Place
from agent.exits import EXIT_CONFIG
from agent.records.reading import agent_seems_to_run

MANY_RESTARTS: Final = 3
_ASKED: Final = "LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,UnitFileState"
_START: Final = f"start it: sudo systemctl start {UNIT}"


def look(place: Place) -> Iterator[Finding]:
    """What systemd says, and where it says nothing, whether the process that holds the state is alive."""
    told = ask_systemd()
    if told.get("LoadState") == "loaded":
        yield from _judge(told)
    elif agent_seems_to_run(place.state_dir):
        yield ok("The agent runs (it is not installed as a service).")
    else:
        yield warning(
            "The agent does not run, and is not installed as a service: captures are not answered.",
            f"install it (dermascan install), or start it by hand: dermascan run --config {place.config_file}",
        )


def _judge(told: dict[str, str]) -> Iterator[Finding]:
    state, restarts = told.get("ActiveState", ""), int(told.get("NRestarts") or 0)
    if state in {"active", "reloading"}:
        if restarts >= MANY_RESTARTS:
            yield warning(
                f"The agent runs, and had to be started again {restarts} times since the device was.",
                f"look why: journalctl -u {UNIT} -p warning -n 50",
            )
        else:
            yield ok("The agent runs.")
        if told.get("UnitFileState") == "disabled":
            yield warning("The agent will not start by itself after a power cut.", f"run: sudo systemctl enable {UNIT}")
    elif state == "activating":
        yield warning("The agent is starting, or waits to be started again.", "wait a minute and ask again")
    elif told.get("ExecMainStatus") == str(EXIT_CONFIG):
        yield failed(
            "The agent stopped because its settings cannot be used: captures are not answered.",
            f"mend what 'Settings' and 'Model' say here, then {_START}",
        )
    else:
        result = told.get("Result", "")
        why = f" ({result})" if result not in {"", "success"} else ""
        yield failed(
            f"The agent does not run{why}: captures are not answered.",
            f"{_START}; if it stops again: journalctl -u {UNIT} -n 50",
        )


def ask_systemd() -> dict[str, str]:
    """What systemd knows of the unit; empty where there is no systemd."""
    done = program(["systemctl", "show", UNIT, f"--property={_ASKED}"])
    if done is None or done.returncode != 0:
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


CHECK = Check(
    name="service",
    title="Agent",
    looks_at="systemd's word on the service, or the process that holds the state folder",
    why="Captures are answered only while the agent runs.",
    look=look,
    hung="systemd does not answer: restart the device",
)
