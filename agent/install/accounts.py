"""The agent's user and its groups, in this machine or in a root folder."""

from __future__ import annotations

from pathlib import Path

from agent.install.files import Owner
from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import GROUPS, USER, Layout
from agent.install.machine import Machine


def make_accounts(layout: Layout, machine: Machine, journal: Journal) -> None:
    """Make what is missing of user and groups.

    Raises:
        InstallError: neither systemd-sysusers nor useradd could do it.
    """
    if not _missing(layout):
        journal.add(Outcome.KEPT, f"user {USER} and its groups")
        return
    if machine.has("systemd-sysusers"):
        machine.run("systemd-sysusers", layout.sysusers.name)
    elif not machine.itself and Machine(Path("/")).has("systemd-sysusers"):
        Machine(Path("/")).run("systemd-sysusers", f"--root={layout.root}", layout.sysusers.name)
    elif machine.has("useradd"):
        for group in GROUPS:
            machine.run("groupadd", "--system", "--force", group)
        if _number(layout.at("/etc/passwd"), USER) is None:
            options = ("--system", "--gid", USER, "--home-dir", "/var/lib/dermascan", "--no-create-home")
            machine.run("useradd", *options, "--shell", "/usr/sbin/nologin", USER)
        machine.run("usermod", "--append", "--groups", ",".join(GROUPS[1:]), USER)
    if missing := _missing(layout):
        raise InstallError(
            f"{layout.root}: has no {' and no '.join(missing)}, and neither systemd-sysusers nor useradd made it: "
            "install the package systemd or passwd there, and start again"
        )
    journal.add(Outcome.MADE, f"user {USER} and its groups")


def owner(layout: Layout, user: str, group: str) -> Owner:
    """Numbers of a user and a group of the device, which are not this machine's where it is a root folder.

    Raises:
        InstallError: the device does not have them.
    """
    uid = 0 if user == "root" else _number(layout.at("/etc/passwd"), user)
    gid = 0 if group == "root" else _number(layout.at("/etc/group"), group)
    if uid is None or gid is None:
        raise InstallError(f"{layout.root}: has no user {user} or no group {group}: start the installation again")
    return Owner(uid, gid)


def remove_accounts(layout: Layout, machine: Machine, journal: Journal) -> None:
    """Take away the user and the groups that are ours alone."""
    for kind, program, name in (
        ("/etc/passwd", "userdel", USER),
        ("/etc/group", "groupdel", USER),
        ("/etc/group", "groupdel", GROUPS[1]),
    ):
        if _number(layout.at(kind), name) is None:
            continue
        if machine.has(program):
            machine.run(program, name)
            journal.add(Outcome.REMOVED, f"{'user' if program == 'userdel' else 'group'} {name}")
        else:
            journal.add(Outcome.NOTED, f"{name} is still in {kind}: {program} is not there to take it away")


def _missing(layout: Layout) -> list[str]:
    missing = [] if _number(layout.at("/etc/passwd"), USER) is not None else [f"user {USER}"]
    return missing + [f"group {group}" for group in GROUPS if _number(layout.at("/etc/group"), group) is None]


def _number(table: Path, name: str) -> int | None:
    """The number of a user or group in ``/etc/passwd`` or ``/etc/group``."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    return None
