"""Where everything lies on a device, and whose it is: the one place that says so (systemd/tmpfiles.conf agrees)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

USER: Final = "dermascan"
CAPTURES_GROUP: Final = "dermascan-captures"
"""Who writes captures joins this group; it opens nothing else."""
GROUPS: Final = (USER, CAPTURES_GROUP, "video", "render")

AGENT_UNIT: Final = "dermascan-agent.service"
TIMERS: Final = ("dermascan-doctor.timer", "dermascan-backup.timer", "dermascan-retention.timer")
"""Each starts the service of its name."""
UNITS: Final = (
    AGENT_UNIT,
    "dermascan-gpu.service",
    "dermascan-retry.timer",
    *(timer.replace(".timer", ".service") for timer in TIMERS),
    *TIMERS,
)
SERVICES_WITH_SECRETS: Final = (AGENT_UNIT, *(timer.replace(".timer", ".service") for timer in TIMERS))
SERVICES_WITH_DEVICES: Final = (AGENT_UNIT, "dermascan-doctor.service")


@dataclass(frozen=True)
class Folder:
    """A folder that an installation has: absolute path on the device, mode, owner, group."""

    path: str
    mode: int
    owner: str
    group: str


FOLDERS: Final = (
    Folder("/etc/dermascan", 0o750, "root", USER),
    Folder("/etc/dermascan/trust", 0o750, "root", USER),
    Folder("/etc/dermascan/credentials", 0o700, "root", "root"),
    Folder("/var/lib/dermascan", 0o750, USER, USER),
    Folder("/srv/dermascan", 0o755, "root", "root"),
    Folder("/srv/dermascan/captures", 0o2770, USER, CAPTURES_GROUP),
)


@dataclass(frozen=True)
class Layout:
    """Places below ``root``, which is "/" on the device itself and a folder for an image that is being built."""

    root: Path

    def at(self, path: str | Path) -> Path:
        """Where an absolute path of the device is, seen from here."""
        return self.root / str(path).lstrip("/")

    def seen_from_device(self, path: Path) -> str:
        """The reverse of `at`."""
        return f"/{path.relative_to(self.root)}"

    @property
    def current(self) -> Path:
        """The link to the release that runs; units name it."""
        return self.at("/opt/dermascan")

    @property
    def releases(self) -> Path:
        """A folder for each release: the one that runs, and the one before."""
        return self.at("/opt/dermascan-releases")

    @property
    def previous(self) -> Path:
        """The link to the release that ran before."""
        return self.releases / "previous"

    @property
    def settings(self) -> Path:
        """The device's settings, which no installation overwrites."""
        return self.at("/etc/dermascan/agent.toml")

    @property
    def credentials(self) -> Path:
        """The folder of secrets."""
        return self.at("/etc/dermascan/credentials")

    @property
    def state(self) -> Path:
        """The database and all that the agent keeps."""
        return self.at("/var/lib/dermascan")

    @property
    def captures(self) -> Path:
        """Where dermoscopes write."""
        return self.at("/srv/dermascan/captures")

    @property
    def units(self) -> Path:
        """Units of software that no package manager knows; an administrator's changes go to /etc/systemd/system."""
        return self.at("/usr/local/lib/systemd/system")

    @property
    def local_units(self) -> Path:
        """Drop-ins and the links of what is enabled."""
        return self.at("/etc/systemd/system")

    @property
    def sysusers(self) -> Path:
        """Users and groups."""
        return self.at("/etc/sysusers.d/dermascan.conf")

    @property
    def tmpfiles(self) -> Path:
        """Folders, put right at every boot."""
        return self.at("/etc/tmpfiles.d/dermascan.conf")

    @property
    def command(self) -> Path:
        """The command, for people."""
        return self.at("/usr/local/bin/dermascan")
