"""Drop-ins: what is this very device's is found out, and nothing else gets into a unit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.install.devices import drop_in, gpu_nodes, is_jetson
from agent.install.files import Files
from agent.install.journal import Journal, Outcome
from agent.install.layout import SERVICES_WITH_SECRETS, Layout
from agent.install.units import CREDENTIALS, DEVICES, FOLDERS, Units
from tests.install.pretended import Device

AGENT = "dermascan-agent.service"


@pytest.fixture
def units(tmp_path: Path) -> Units:
    layout = Layout(tmp_path)
    layout.credentials.mkdir(parents=True)
    journal = Journal(quiet=True)
    return Units(layout, Files(journal, lambda *_: None), journal)


def dropped(root: Path, name: str, service: str = AGENT) -> str:
    return (root / f"etc/systemd/system/{service}.d/{name}").read_text()


def test_every_plain_secret_is_handed_over_and_nothing_else(units: Units, tmp_path: Path) -> None:
    secrets = tmp_path / "etc/dermascan/credentials"
    for name in ("pseudonym.key", "mqtt-password", "two words", ".hidden", "x:y", "naïve"):
        (secrets / name).write_text("s")
    (secrets / "link").symlink_to("/etc/shadow")
    (secrets / "folder").mkdir()
    (secrets / "huge").write_bytes(bytes((1 << 20) + 1))
    (secrets / "mqtt-password").chmod(0o644)
    units.fit_credentials()
    for service in SERVICES_WITH_SECRETS:
        lines = [line for line in dropped(tmp_path, CREDENTIALS, service).splitlines() if line.startswith("Load")]
        assert lines == [
            "LoadCredential=mqtt-password:/etc/dermascan/credentials/mqtt-password",
            "LoadCredential=pseudonym.key:/etc/dermascan/credentials/pseudonym.key",
        ]
    assert stat.S_IMODE((secrets / "mqtt-password").stat().st_mode) == 0o600
    for path in list(secrets.iterdir()):
        if path.name != "folder":
            path.unlink()
    units.fit_credentials()
    assert not list(tmp_path.glob("etc/systemd/system/*.d"))


def test_folders_elsewhere_are_opened_one_by_one(units: Units, tmp_path: Path) -> None:
    units.fit_folders(
        ["/srv/dermascan/captures/scope-1", "/mnt/share/scope-2", "/home/ana/scope-3", "/mnt/share/scope-2"]
    )
    text = dropped(tmp_path, FOLDERS)
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "[Service]",
        "ProtectHome=tmpfs",
        "BindPaths=-/home/ana/scope-3",
        "ReadWritePaths=-/mnt/share/scope-2",
    ]
    units.fit_folders(["/srv/dermascan/captures/scope-1"])
    assert not (tmp_path / f"etc/systemd/system/{AGENT}.d").exists()


@pytest.mark.parametrize(
    "folder", ["/mnt/a b", "/mnt/a\nExecStartPre=/bin/sh", "/mnt/%n", '/mnt/"x"', "/mnt/a:b", "/mnt/\\x"]
)
def test_a_folder_that_would_say_more_than_a_name_gets_into_no_unit(units: Units, tmp_path: Path, folder: str) -> None:
    units.fit_folders([folder])
    assert not list(tmp_path.glob("etc/systemd/system/*.d"))


def _node(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o660, os.makedev(1, 3))


ORIN = ["/dev/dri/renderD128", "/dev/host1x-fence", "/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvmap"]
XAVIER = ["/dev/nvhost-as-gpu", "/dev/nvhost-ctrl", "/dev/nvhost-gpu", "/dev/nvmap"]
THOR = ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvmap"]


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes can be made by root alone")
@pytest.mark.parametrize("nodes", [ORIN, XAVIER, THOR], ids=["JetPack 6", "JetPack 5", "JetPack 7"])
def test_a_jetson_is_given_the_nodes_that_it_has(
    device: Device, release: Callable[..., Path], nodes: list[str]
) -> None:
    (device.root / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0\n")
    for node in [*nodes, "/dev/sda", "/dev/ttyS0", "/dev/nvme0"]:
        _node(device.at(node))
    device.at("/dev/nvhost-file").write_text("no node")
    device.install(release())
    for service in (AGENT, "dermascan-doctor.service"):
        found = [line for line in dropped(device.root, DEVICES, service).splitlines() if line.startswith("DeviceAllow")]
        assert found == [f"DeviceAllow={node} rw" for node in nodes]
    environment = next(device.root.glob("opt/dermascan-releases/*/pyvenv.cfg")).read_text()
    assert "include-system-site-packages = true" in environment


def test_another_machine_is_given_none(device: Device, release: Callable[..., Path]) -> None:
    device.install(release())
    assert not list(device.root.glob("etc/systemd/system/*.d"))
    environment = next(device.root.glob("opt/dermascan-releases/*/pyvenv.cfg")).read_text()
    assert "include-system-site-packages = false" in environment


def test_a_board_is_known_by_its_firmware(tmp_path: Path) -> None:
    assert not is_jetson(tmp_path)
    compatible = tmp_path / "proc/device-tree/compatible"
    compatible.parent.mkdir(parents=True)
    compatible.write_bytes(b"nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0")
    assert is_jetson(tmp_path)
    assert gpu_nodes(tmp_path / "dev") == []


def test_the_template_says_where_it_comes_from() -> None:
    assert drop_in("[Service]\n@DEVICES@\n", ["/dev/nvmap"]) == "[Service]\nDeviceAllow=/dev/nvmap rw\n"


def test_what_is_left_alone_is_said(units: Units, tmp_path: Path) -> None:
    (tmp_path / "etc/dermascan/credentials/two words").write_text("s")
    units.fit_credentials()
    assert [entry.outcome for entry in units._journal.entries] == [Outcome.NOTED]
