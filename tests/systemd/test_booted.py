"""The installed agent under a real systemd: started, killed, hung, misconfigured, upgraded, taken off."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.install.layout import TIMERS
from tests.install.pretended import sealed
from tests.systemd.booted import Booted, debian, packed, why_not

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
AGENT = "dermascan-agent.service"
SETTINGS = "/etc/dermascan/agent.toml"
READY_S = 2.0
"""Start to ready with the demonstration bundle."""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("booted")
    root = folder / "root"
    subprocess.run(["/bin/cp", "-a", "--reflink=auto", str(debian()), str(root)], check=True)
    shutil.copytree(packed(folder), root / "srv/release")
    found = Booted(root)
    print(f"\nbooted in {found.boot():.1f} s")
    try:
        began = time.monotonic()
        print(found.run("/srv/release/install.sh", "--device-id", "room-2", "--clinic-id", "clinic-a").stdout)
        print(f"installed and started in {time.monotonic() - began:.1f} s")
        yield found
        print(found.log())
    finally:
        found.off()


@pytest.fixture(autouse=True)
def running(device: Booted) -> Iterator[None]:
    """Each test begins with an agent that runs, and was not restarted."""
    settings = device.at(SETTINGS).read_text() if device.at(SETTINGS).exists() else ""
    device.run("systemctl", "reset-failed", check=False)
    if device.at("/opt/dermascan").is_symlink():
        device.run("systemctl", "restart", AGENT)
    yield
    if settings and device.at(SETTINGS).exists():
        device.at(SETTINGS).write_text(settings)
    device.drop_in(None)


def capture(device: Booted, shared_data: Path, number: int) -> str:
    """Write a picture as a dermoscope does; returns the state its scan comes to."""
    pictures = sorted((shared_data / "ham10000/images").glob("*.jpg"))
    name = f"capture-{number}.jpg"
    shutil.copy(pictures[number], device.at(f"/srv/dermascan/captures/scope-1/{name}"))

    def state() -> str:
        rows = device.says("dermascan", "scans", "--config", SETTINGS, "--json").splitlines()
        return next((str(json.loads(row)["state"]) for row in rows if name in row), "unknown")

    device.wait(lambda: state() not in ("unknown", "received"), f"{name} comes to no end: {device.log()}")
    return state()


def test_it_is_ready_within_two_seconds(device: Booted) -> None:
    device.run("systemctl", "stop", AGENT)
    device.run("systemctl", "start", AGENT)
    took = (
        int(device.show("ActiveEnterTimestampMonotonic")) - int(device.show("InactiveExitTimestampMonotonic"))
    ) / 1e6
    print(f"start to ready: {took:.2f} s")
    assert device.show("StatusText") == "watching"
    assert took <= READY_S


@pytest.mark.requirement("R-SEC-7")
def test_the_sandbox_is_what_the_unit_says(device: Booted) -> None:
    pid = device.show("MainPID")
    status = dict(
        line.split(":\t", 1) for line in device.says("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == [device.says("id", "-u", "dermascan")] * 4
    inside = ("nsenter", "--target", pid, "--mount", "--", "setpriv", "--reuid=dermascan", "--regid=dermascan")
    for path in ("/etc/dermascan", "/opt/dermascan/bin", "/usr/bin", "/home", "/root"):
        assert device.run(*inside, "--clear-groups", "touch", f"{path}/x", check=False).returncode != 0
    assert device.run(*inside, "--clear-groups", "touch", "/var/lib/dermascan/x").returncode == 0
    device.at("/var/lib/dermascan/x").unlink()
    limits = device.says("cat", f"/proc/{pid}/limits")
    assert "Max core file size        0                    0" in limits


def test_a_capture_is_answered_in_the_sandbox(device: Booted, shared_data: Path) -> None:
    assert capture(device, shared_data, 0) == "answered"


@pytest.mark.fault("F30")
def test_no_statistics_are_gathered_for_anybody(device: Booted, shared_data: Path) -> None:
    capture(device, shared_data, 1)
    kept = {path.name for path in device.at("/var/lib/dermascan").iterdir()}
    assert ".cache" not in kept
    assert not list(device.at("/var/lib/dermascan").rglob("*onnxruntime*"))


def test_a_killed_agent_is_started_again_and_goes_on(device: Booted, shared_data: Path) -> None:
    before = device.show("MainPID")
    device.signal("KILL")
    device.wait(lambda: back(device, before), "it stays down")
    assert device.show("NRestarts") == "1"
    assert capture(device, shared_data, 2) == "answered"


@pytest.mark.fault("F25")
def test_an_agent_that_hangs_is_ended_by_the_watchdog(device: Booted, shared_data: Path) -> None:
    device.drop_in("[Service]\nWatchdogSec=3\n")
    device.run("systemctl", "restart", AGENT)
    time.sleep(7)  # two watchdog times: a healthy agent is left alone
    assert device.show("NRestarts") == "0"
    before = device.show("MainPID")
    device.signal("STOP")
    device.wait(lambda: back(device, before), "it still hangs")
    log = device.log()
    assert "Watchdog timeout" in log
    assert "most recent call first" in log  # where it hung, for whoever looks
    assert capture(device, shared_data, 3) == "answered"


def test_a_stop_is_clean_quick_and_lasting(device: Booted) -> None:
    began = time.monotonic()
    device.run("systemctl", "stop", AGENT)
    assert time.monotonic() - began < 5
    assert (device.show("Result"), device.show("ExecMainStatus")) == ("success", "0")
    time.sleep(2)
    assert device.show("ActiveState") == "inactive"


@pytest.mark.fault("F24")
def test_wrong_settings_are_named_and_not_tried_in_a_loop(device: Booted) -> None:
    settings = device.at(SETTINGS)
    settings.write_text(settings.read_text().replace("deadline_s = 3.0", "deadline_s = 300"))
    assert device.run("systemctl", "restart", AGENT, check=False).returncode != 0
    time.sleep(3)
    assert (device.show("ActiveState"), device.show("ExecMainStatus"), device.show("NRestarts")) == (
        "failed",
        "78",
        "0",
    )
    assert "inference.deadline_s = 300" in device.show("StatusText")
    assert device.show("ActiveState", "dermascan-retry.timer") == "active"  # in half an hour, once
    device.run("systemctl", "stop", AGENT)
    assert device.show("ActiveState", "dermascan-retry.timer") == "inactive"


def test_a_reload_takes_settings_over_without_a_restart(device: Booted) -> None:
    settings, before = device.at(SETTINGS), device.show("MainPID")
    text = settings.read_text()
    assert "\nquota_mb = 8192\n" in text
    settings.write_text(text.replace("\nquota_mb = 8192\n", "\nquota_mb = 4096\n"))
    device.run("systemctl", "reload", AGENT)
    device.wait(lambda: "changed: store.quota_mb" in device.log(), "the agent did not read its settings again")
    settings.write_text(text.replace("\nquota_mb = 8192\n", "\nquota_mb = 1\n"))
    refused = device.run("systemctl", "reload", AGENT, check=False)
    assert refused.returncode != 0
    device.wait(lambda: "quota_mb" in device.log().rpartition("changed:")[2], "what is wrong is not said")
    assert (device.show("MainPID"), device.show("NRestarts")) == (before, "0")


def test_a_fault_that_stays_is_given_up_after_ten_starts(device: Booted) -> None:
    device.drop_in("[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=50ms\n")
    device.run("systemctl", "restart", AGENT, check=False)
    device.wait(lambda: device.show("ActiveState") == "failed" and device.show("SubState") == "failed", "it goes on")
    device.wait(lambda: device.log().count("Start request repeated too quickly") > 0, "no limit was reached")
    assert int(device.show("NRestarts")) <= 10
    assert device.show("ActiveState", "dermascan-retry.timer") == "active"
    device.run("systemctl", "stop", AGENT)


@pytest.mark.requirement("R-SEC-7")
def test_a_secret_reaches_the_agent_and_nobody_else(device: Booted) -> None:
    secret = device.at("/etc/dermascan/credentials/pseudonym.key")
    key = "3f9a-41c7-b8e2-0d56-77aa-9c13-e4f8-2b60"
    secret.write_text(key)
    device.run("dermascan", "install")
    pid = device.show("MainPID")
    place = "/run/credentials/dermascan-agent.service/pseudonym.key"
    reads = (
        "nsenter",
        "--target",
        pid,
        "--mount",
        "--",
        "setpriv",
        "--reuid=dermascan",
        "--regid=dermascan",
        "--clear-groups",
    )
    assert device.run(*reads, "cat", place).stdout == key
    assert device.run(*reads, "cat", "/etc/dermascan/credentials/pseudonym.key", check=False).returncode != 0
    assert device.run("setpriv", "--reuid=nobody", "--clear-groups", "cat", place, check=False).returncode != 0
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.unlink()
    device.run("dermascan", "install")
    assert "credentials" not in device.show("DropInPaths")


def test_the_timers_wait_for_their_hour(device: Booted) -> None:
    for timer in TIMERS:
        assert device.says("systemctl", "is-enabled", timer) == "enabled"
        assert device.show("ActiveState", timer) == "active"
    verified = device.run("systemd-analyze", "verify", "--man=no", AGENT, *TIMERS, check=False)
    assert [line for line in verified.stderr.splitlines() if "dermascan" in line] == []


def test_it_comes_back_after_a_power_cut(device: Booted, shared_data: Path) -> None:
    device.off()
    device.boot()
    device.wait(lambda: device.show("ActiveState") == "active", "it does not start with the device")
    assert capture(device, shared_data, 4) == "answered"


@pytest.mark.fault("F29")
@pytest.mark.requirement("R-SRV-6")
def test_upgrade_way_back_and_a_release_that_does_not_start(device: Booted, shared_data: Path) -> None:
    capture(device, shared_data, 5)
    first = device.at("/opt/dermascan").readlink().name
    rows = waiting(device)
    assert rows >= 1
    newer = device.at("/srv/newer")
    shutil.copytree(device.at("/srv/release"), newer)
    (newer / "docs/new.md").write_text("What is new.\n")
    sealed(newer)
    device.run("/srv/newer/install.sh")
    second = device.at("/opt/dermascan").readlink().name
    assert second != first
    assert device.show("ActiveState") == "active"
    assert second in device.says("cat", f"/proc/{device.show('MainPID')}/cmdline")
    assert waiting(device) == rows
    assert capture(device, shared_data, 6) == "answered"
    assert second.split("-")[0] in device.run("dermascan", "install", "--rollback").stdout
    assert device.at("/opt/dermascan").readlink().name == first
    assert waiting(device) >= rows

    unit = newer / "systemd" / AGENT
    unit.write_text(unit.read_text().replace("ExecStart=/opt/dermascan/bin/dermascan run", "ExecStart=/bin/false"))
    (newer / "docs/new.md").write_text("What is broken.\n")
    sealed(newer)
    refused = device.run("/srv/newer/install.sh", check=False)
    assert refused.returncode == 1
    assert f"({first}) runs again" in refused.stderr
    assert device.at("/opt/dermascan").readlink().name == first
    assert device.show("ActiveState") == "active"
    assert capture(device, shared_data, 7) == "answered"


@pytest.mark.requirement("R-SRV-6")
def test_uninstall_and_purge(device: Booted) -> None:
    rows = waiting(device)
    device.run("dermascan", "uninstall")
    assert device.show("LoadState") == "not-found"
    assert not os.path.lexists(device.at("/opt/dermascan"))
    assert device.at("/var/lib/dermascan/dermascan.db").exists()
    device.run("/srv/release/install.sh")
    assert device.show("ActiveState") == "active"
    assert waiting(device) == rows
    asked = device.run("dermascan", "uninstall", "--purge", check=False)
    assert asked.returncode == 1
    assert f"{rows} events" in asked.stderr
    device.run("dermascan", "uninstall", "--purge", "--yes")
    left = device.says("find", "/etc", "/usr", "/opt", "/var/lib", "-name", "*dermascan*").splitlines()
    assert left == []
    assert len(list(device.at("/srv/dermascan/captures/scope-1").glob("*.jpg"))) > 0


def back(device: Booted, before: str) -> bool:
    """Whether another process is the agent now, and says that it is ready."""
    return device.show("MainPID") not in (before, "0") and device.show("ActiveState") == "active"


def waiting(device: Booted) -> int:
    """Events that the cloud has not committed."""
    code = "import sqlite3; print(sqlite3.connect('file:/var/lib/dermascan/dermascan.db?mode=ro', uri=True)"
    code += ".execute(\"select count(*) from outbox where state = 'waiting'\").fetchone()[0])"
    return int(device.run("python3", "-c", code).stdout)
