"""Starting and stopping the installed agent, where systemd runs; elsewhere there is nothing to do."""

from __future__ import annotations

from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import AGENT_UNIT, TIMERS, UNITS
from agent.install.machine import Machine


class Service:
    """The agent as systemd has it."""

    def __init__(self, machine: Machine, journal: Journal) -> None:
        self._machine, self._journal = machine, journal

    @property
    def here(self) -> bool:
        """Whether systemd can be asked at all."""
        return self._machine.booted

    def wanted(self) -> bool:
        """Whether the agent runs, or would if it could; False where somebody stopped it."""
        return self.here and self._says("is-active", AGENT_UNIT) in ("active", "activating", "reloading", "failed")

    def know_the_units(self) -> None:
        """Have systemd read the unit files again, and the folders and timers brought in line."""
        if self.here:
            self._machine.run("systemctl", "daemon-reload")
            for timer in TIMERS:
                if self._says("is-enabled", timer) == "enabled":
                    self._machine.run("systemctl", "start", timer)

    def restart(self) -> None:
        """Start the agent, anew where it runs; returns when it takes in captures.

        Raises:
            InstallError: it did not start; the sentence has what it said last.
        """
        self._machine.run("systemctl", "reset-failed", AGENT_UNIT, check=False)
        self._journal.saying("starting the agent")
        done = self._machine.run("systemctl", "restart", AGENT_UNIT, check=False)
        if done.returncode != 0:
            log = self._machine.run(
                "journalctl", "--no-pager", "--output=cat", "--lines=8", f"--unit={AGENT_UNIT}", check=False
            )
            said = "\n  ".join(log.stdout.strip().splitlines())
            raise InstallError(f"the agent does not start. Its last words:\n  {said}")
        self._journal.add(Outcome.CHANGED, f"{AGENT_UNIT} runs")

    def stop(self) -> None:
        """Stop everything of ours, and have nothing start it again."""
        if self.here:
            for unit in (*TIMERS, AGENT_UNIT, "dermascan-retry.timer"):
                self._machine.run("systemctl", "stop", unit, check=False)
            self._journal.add(Outcome.CHANGED, f"{AGENT_UNIT} is stopped")

    def forget(self) -> None:
        """After the unit files are gone."""
        if self.here:
            self._machine.run("systemctl", "daemon-reload")
            self._machine.run("systemctl", "reset-failed", *UNITS, check=False)

    def _says(self, *words: str) -> str:
        return self._machine.run("systemctl", *words, check=False).stdout.strip()
