"""The unit files keep the contract that the code has with them, and their sandbox is as tight as we say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import exits, reload_command
from agent.cli import build_parser
from agent.install.layout import AGENT_UNIT, FOLDERS, GROUPS, TIMERS, UNITS, USER

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(unit for unit in UNITS if unit.endswith(".service"))
OURS = [unit for unit in SERVICES if unit != "dermascan-gpu.service"]
"""Those that run our code."""
MOST_EXPOSED = {AGENT_UNIT: 1.8, "dermascan-doctor.service": 1.8, "dermascan-retention.service": 1.8}
MOST_EXPOSED["dermascan-backup.service"] = 1.0
SETTINGS = "/etc/dermascan/agent.toml"
COMMANDS = {
    "dermascan-agent.service": ["run", "--config", SETTINGS],
    "dermascan-doctor.service": ["doctor", "--config", SETTINGS, "--json"],
    "dermascan-backup.service": ["backup", "--config", SETTINGS],
    "dermascan-retention.service": ["retention", "--config", SETTINGS],
}
SHARED = (
    "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "SecureBits", "ProtectSystem", "ProtectHome",
    "PrivateTmp", "PrivateIPC", "PrivateMounts", "RemoveIPC", "ProtectKernelTunables", "ProtectKernelModules",
    "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc", "RestrictSUIDSGID",
    "RestrictRealtime", "RestrictNamespaces", "LockPersonality", "KeyringMode", "SystemCallArchitectures",
    "SystemCallFilter", "SystemCallErrorNumber", "User", "Group", "UMask", "LimitCORE", "StateDirectory", "Environment",
)  # fmt: skip

ANALYZE = shutil.which("systemd-analyze") or ""
systemd_analyze = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not on this machine (package systemd)")


def read(unit: str) -> dict[str, dict[str, list[str]]]:
    """Every value of every key, in order: unit files may say a key several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (SYSTEMD / unit).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return found


def one(unit: str, key: str) -> str:
    (value,) = read(unit)["Service"][key]
    return value


def test_the_folder_holds_these_units_and_nothing_else() -> None:
    companions = {"sysusers.conf", "tmpfiles.conf", "jetson.conf.in"}
    assert {path.name for path in SYSTEMD.iterdir()} == {*UNITS, *companions}


@pytest.mark.fault("F24")
def test_a_wrong_configuration_is_not_started_again() -> None:
    assert one(AGENT_UNIT, "RestartPreventExitStatus").split() == [str(exits.EXIT_CONFIG)]
    assert one(AGENT_UNIT, "Restart") == "on-failure"


def test_a_fault_that_stays_is_given_up_and_tried_again_later() -> None:
    unit = read(AGENT_UNIT)["Unit"]
    assert unit["StartLimitBurst"] == ["10"]
    assert unit["OnFailure"] == unit["PropagatesStopTo"] == ["dermascan-retry.timer"]
    assert read("dermascan-retry.timer")["Timer"]["Unit"] == [AGENT_UNIT]


@pytest.mark.parametrize("unit", OURS)
def test_the_command_line_is_the_one_agreed_on_without_a_shell(unit: str) -> None:
    program, *arguments = shlex.split(one(unit, "ExecStart"))
    assert program == "/opt/dermascan/bin/dermascan"
    assert arguments == COMMANDS[unit]


@pytest.mark.parametrize("unit", OURS)
def test_the_command_line_is_one_that_the_command_understands(unit: str) -> None:
    _, *arguments = shlex.split(one(unit, "ExecStart"))
    parser = build_parser()
    assert parser.parse_args(arguments).config == Path(SETTINGS)


def test_a_reload_tells_the_agent_without_a_shell() -> None:
    program, *arguments = shlex.split(one(AGENT_UNIT, "ExecReload"))
    assert program == "/opt/dermascan/bin/dermascan"
    assert arguments == ["reload", "--config", SETTINGS]
    parsed = build_parser().parse_args(arguments)
    assert (parsed.config, parsed.run) == (Path(SETTINGS), reload_command.run)


@pytest.mark.fault("F25")
def test_the_agent_says_that_it_is_ready_and_is_watched() -> None:
    assert one(AGENT_UNIT, "Type") == "notify"
    assert one(AGENT_UNIT, "NotifyAccess") == "main"  # a worker cannot vouch for the agent
    assert one(AGENT_UNIT, "WatchdogSec") == "30"


def test_the_main_job_needs_no_network() -> None:
    words = (SYSTEMD / AGENT_UNIT).read_text(encoding="utf-8")
    assert "network" not in re.sub(r"#.*", "", words).lower()


@pytest.mark.parametrize("unit", OURS)
@pytest.mark.requirement("R-SEC-7")
def test_every_program_of_ours_has_the_same_sandbox(unit: str) -> None:
    agent, service = read(AGENT_UNIT)["Service"], read(unit)["Service"]
    for key in SHARED:
        assert service.get(key) == agent[key], key


@pytest.mark.fault("F30")
@pytest.mark.parametrize("unit", OURS)
def test_no_core_dump_and_no_statistics_leave_the_device(unit: str) -> None:
    assert one(unit, "LimitCORE") == "0"
    assert "ORT_DISABLE_TELEMETRY=1" in read(unit)["Service"]["Environment"]


def test_users_groups_and_folders_agree_with_the_installer() -> None:
    service = read(AGENT_UNIT)["Service"]
    assert (service["User"], service["Group"]) == ([USER], [USER])
    assert set(service["SupplementaryGroups"][0].split()) <= set(GROUPS)
    declared = {line.split()[1] for line in _lines("sysusers.conf") if line[0] in "gu"}
    assert declared == set(GROUPS)
    made = [
        (path, int(mode, 8), owner, group)
        for _, path, mode, owner, group, *_ in (line.split() for line in _lines("tmpfiles.conf"))
    ]
    assert made == [(folder.path, folder.mode, folder.owner, folder.group) for folder in FOLDERS]
    assert one(AGENT_UNIT, "StateDirectory") == "dermascan"
    assert int(one(AGENT_UNIT, "StateDirectoryMode"), 8) == 0o750


@pytest.mark.parametrize("timer", TIMERS)
def test_timers_start_a_service_of_their_name(timer: str) -> None:
    assert timer.replace(".timer", ".service") in SERVICES
    assert read(timer)["Install"]["WantedBy"] == ["timers.target"]


@systemd_analyze
@pytest.mark.parametrize("unit", sorted(MOST_EXPOSED))
@pytest.mark.requirement("R-SEC-7")
def test_the_exposure_score(unit: str) -> None:
    done = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--no-pager", str(SYSTEMD / unit)],
        capture_output=True, text=True, check=False, timeout=25,
    )  # fmt: skip
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None and "offline" in done.stderr:
        pytest.skip("this systemd-analyze is too old to judge a file (before 250)")
    assert found is not None, done.stderr
    assert float(found.group(1)) <= MOST_EXPOSED[unit], done.stdout


@systemd_analyze
def test_systemd_has_nothing_to_complain_about(tmp_path: Path) -> None:
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(SYSTEMD / unit, units / unit)
    for name in ("sysinit.target", "basic.target", "multi-user.target", "timers.target", "shutdown.target"):
        (units / name).write_text("[Unit]\nDescription=of the system\n")
    for name in ("local-fs.target", "-.mount", "time-set.target", "time-sync.target", "system.slice"):
        (units / name).write_text(
            "[Unit]\nDescription=of the system\n" + "[Mount]\nWhat=/dev/x\n" * (name == "-.mount")
        )
    for program in ("/opt/dermascan/bin/dermascan", "/usr/bin/nvidia-modprobe"):
        path = tmp_path / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/true\n")
        path.chmod(0o755)
    done = subprocess.run(
        [ANALYZE, "verify", f"--root={tmp_path}", "--recursive-errors=no", "--man=no", *UNITS],
        capture_output=True, text=True, check=False, timeout=25,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "dermascan" in line]
    assert ours == [], done.stderr


def _lines(name: str) -> list[str]:
    lines = (SYSTEMD / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
