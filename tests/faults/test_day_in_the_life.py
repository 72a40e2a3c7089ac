"""A day in the life: a fresh device is installed, works, is calibrated, hears verdicts, outlives an outage and a power
cut, is brought to another release and another model and back, and is uninstalled. What runs is what was installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import zipfile
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sync.scene import Scene, read_books, until
from calibration.shelf.profile import expiry
from calibration.shelf.reading import FOLDER as SHELF
from calibration.shelf.reading import Shelf
from calibration.shelf.writing import activate, put_profile, put_verification
from engines.bundle import demo_bundle_folder
from engines.installed.activation import Activation, commit
from engines.installed.ledger import Ledger
from tests.calibration.visiting import fitted, variant, verification_of, verified
from tests.fakes.bundles import new_version
from tests.faults.whole import check_books, drop, filed, rows, wait_filed
from tests.install.pretended import CAPTURES_GID, GID, REPOSITORY, UID, Device, pack, sealed

ROOMS = ("agent", "build", "calibration", "cloud", "engines", "training")


def pack_the_agent(folder: Path, version: str) -> Path:
    """A release with the agent itself in it, as it is in this checkout, and the demonstration bundle."""
    pack(folder, version)
    (wheel,) = (folder / "wheels").glob("dermascan_edge-*.whl")
    info = f"dermascan_edge-{version}.dist-info"
    bundle = demo_bundle_folder()
    with zipfile.ZipFile(wheel, "w") as archive:
        for room in ROOMS:
            for path in sorted((REPOSITORY / room).rglob("*")):
                inside = path.relative_to(REPOSITORY)
                kept = "models" not in inside.parts or bundle == path.parent
                if path.is_file() and path.suffix != ".pyc" and kept:
                    archive.write(path, inside)
        archive.writestr("agent/starts.txt", "True")
        archive.writestr("dependencies.pth", f"{sysconfig.get_path('purelib')}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: dermascan-edge\nVersion: {version}\n")
        commands = metadata.distribution("dermascan-edge").read_text("entry_points.txt") or ""
        archive.writestr(f"{info}/entry_points.txt", commands)
    return sealed(folder)


class Clinic:
    """The installed device, with the software that is on it run as its service manager would."""

    def __init__(self, root: Path) -> None:
        etc = root / "etc"
        etc.mkdir(parents=True)
        (root / "dev").mkdir()
        user = f"dermascan:x:{UID}:{GID}::/var/lib/dermascan:/bin/false"
        (etc / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\n{user}\n")
        groups = {"root": 0, "dermascan": GID, "dermascan-captures": CAPTURES_GID, "video": 44, "render": 105}
        (etc / "group").write_text("".join(f"{name}:x:{number}:\n" for name, number in groups.items()))
        self.device = Device(root)
        self.settings = self.device.at("/etc/dermascan/agent.toml")
        self.scope = self.device.at("/srv/dermascan/captures/scope-1")
        self.state = self.device.at("/var/lib/dermascan")
        self.home = root.parent
        (self.home / "state").symlink_to(self.state)  # where the books look
        self.models = root.parent / "models"
        self.log = root.parent / "agent.log"
        self.agent: subprocess.Popen[bytes] | None = None
        self.hashes: list[str] = []

    def settle_in(self, mqtt: dict[str, Any]) -> None:
        """What an administrator does to the settings; the places are moved into this folder, which is no real root."""
        text = self.settings.read_text()
        for place in ("/var/lib/dermascan", "/srv/dermascan", "/etc/dermascan"):
            text = text.replace(f'"{place}', f'"{self.device.at(place)}')
        bundle = next(line for line in text.splitlines() if line.startswith("bundle = "))
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in mqtt.items())
        self.settings.write_text(text.replace(bundle, f'models = "{self.models}"') + f"\n[mqtt]\n{lines}\n")
        self.scope.mkdir(exist_ok=True)

    def start(self) -> None:
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as words:
            self.agent = subprocess.Popen([*self._dermascan("run")], stderr=words, cwd="/", env=self._environment)
        until(lambda: b"ready:" in self.log.read_bytes()[said:], 20, "the agent is ready")

    def stop(self) -> None:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGTERM)
        assert self.agent.wait(30) == 0, self.log.read_text()[-2000:]

    def power_cut(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait(30)

    def command(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            self._dermascan(*words, "--json"),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._environment,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def capture(self, *numbers: int) -> list[dict[str, Any]]:
        """Captures, answered: their answers."""
        hashes = drop(self.scope, *numbers)
        self.hashes += hashes
        wait_filed(self.home, hashes)
        return [self.answer(sha256) for sha256 in hashes]

    def answer(self, sha256: str) -> dict[str, Any]:
        ((scan_id,),) = self.rows("SELECT scan_id FROM scans WHERE image_sha256 = ?", sha256)
        found: dict[str, Any] = json.loads((self.state / "results" / f"{scan_id}.json").read_bytes())
        return found

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return rows(self.home, sql, *values)

    @property
    def waiting(self) -> int:
        return len(self.rows("SELECT 1 FROM outbox WHERE state = 'waiting'"))

    def _dermascan(self, *words: str) -> Sequence[str]:
        return (str(self.device.at("/opt/dermascan/bin/dermascan")), *words, "--config", str(self.settings))

    @property
    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.mark.timeout(180)
@pytest.mark.requirement("R-INT-6", "R-REC-5", "R-CLD-1", "R-MOD-3")
@pytest.mark.fault("F11")
@pytest.mark.fault("F18")
@pytest.mark.fault("F27")
@pytest.mark.fault("F29")
def test_a_day_in_the_life(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("owners can be given by root alone: start the tests of the installation as root")
    clinic = Clinic(tmp_path / "root")
    first, second = (pack_the_agent(tmp_path / f"release-{version}", version) for version in ("1.0", "1.1"))
    with Scene(tmp_path / "cloud-side") as scene, scene.cloud():
        try:
            _morning(clinic, scene, first)
            _outage_and_power_cut(clinic, scene)
            _upgrade(clinic, scene, second)
            _another_model_and_back(clinic)
            _the_release_before(clinic)
            until(lambda: not clinic.waiting, 40, "the cloud has everything")
            clinic.stop()
        finally:
            if clinic.agent is not None:
                clinic.agent.kill()
                clinic.agent.wait()
        check_books(clinic.home, clinic.hashes)
        books = read_books(clinic.state, scene.ledger)
        assert books.in_order, books
    _evening(clinic)


def _morning(clinic: Clinic, scene: Scene, release: Path) -> None:
    """Installed, settled in, the first captures, calibrated, a verdict."""
    clinic.device.install(release)
    new_version(demo_bundle_folder(), clinic.models, "1.0.0")
    clinic.settle_in(scene.mqtt("room-2") | {"host": "127.0.0.1"})
    clinic.command("engine", "activate", "demo/1.0.0")
    _first_minute_is_over(Ledger(clinic.models))
    clinic.start()
    answers = clinic.capture(1, 2)
    assert {answer["calibration"]["state"] for answer in answers} == {"none"}
    assert {answer["software_version"] for answer in answers} == {"1.0"}
    profile = _calibrate(Shelf(clinic.state / SHELF))
    (answer,) = clinic.capture(3)
    assert (answer["calibration"]["state"], answer["calibration"]["profile_id"]) == ("valid", profile)
    until(lambda: not clinic.waiting, 20, "the first events arrive")
    verdict = ("--diagnosis", "melanoma", "--source", "clinician")
    assert clinic.command("feedback", answer["scan_id"], *verdict)["recorded"] is True


def _first_minute_is_over(ledger: Ledger) -> None:
    """What the agent does with a bundle that has answered for a minute without a fault."""

    def committed(state: Activation) -> Activation:
        assert state.candidate is not None
        return commit(state, state.candidate.installed, "now")

    ledger.change(committed)


def _calibrate(shelf: Shelf) -> str:
    """What a technician's visit leaves: a profile that was fitted, verified and put into use."""
    now = datetime.now(timezone.utc)
    profile = variant(created_at=now, expires_at=expiry(now))
    put_profile(shelf, profile, fitted()[1])
    put_verification(shelf, verification_of(profile, made_at=now), verified()[1])
    activate(shelf, profile, "Ana", now)
    return profile.profile_id


def _outage_and_power_cut(clinic: Clinic, scene: Scene) -> None:
    """Without a network captures are answered; and without power nothing that was seen is forgotten."""
    until(lambda: not clinic.waiting, 20, "the verdict arrives")
    scene.broker.kill()
    clinic.capture(4, 5)
    assert clinic.waiting == 2
    clinic.hashes += drop(clinic.scope, 6, 7, 8)
    clinic.power_cut()
    clinic.start()
    wait_filed(clinic.home, clinic.hashes)
    assert clinic.waiting == 5


def _upgrade(clinic: Clinic, scene: Scene, release: Path) -> None:
    """Another release, with the outbox full and a capture that comes meanwhile."""
    clinic.stop()
    clinic.hashes += drop(clinic.scope, 9)
    clinic.device.install(release)
    clinic.start()
    wait_filed(clinic.home, clinic.hashes)
    assert clinic.answer(clinic.hashes[-1])["software_version"] == "1.1"
    assert clinic.waiting == 6
    scene.broker.start()


def _another_model_and_back(clinic: Clinic) -> None:
    new_version(demo_bundle_folder(), clinic.models, "9.0.0")
    clinic.command("engine", "activate", "demo/9.0.0")
    until(lambda: b"demo/9.0.0" in clinic.log.read_bytes(), 20, "the agent takes the bundle up")
    until(lambda: clinic.capture(*_next(clinic))[0]["model_version"] == "demo/9.0.0", 20, "it answers")
    clinic.command("engine", "rollback")
    until(lambda: clinic.capture(*_next(clinic))[0]["model_version"] == "demo/1.0.0", 20, "the one before answers")


def _next(clinic: Clinic) -> tuple[int]:
    return (len(clinic.hashes) + 1,)


def _the_release_before(clinic: Clinic) -> None:
    clinic.stop()
    assert clinic.device.installation().go_back().startswith("1.0-")
    clinic.start()
    (answer,) = clinic.capture(*_next(clinic))
    assert answer["software_version"] == "1.0"


def _evening(clinic: Clinic) -> None:
    """Uninstalled, what was kept stays; purged, only the clinic's own pictures do."""
    clinic.device.removal().uninstall(purge=False)
    assert not clinic.device.at("/opt/dermascan").exists()
    assert len(filed(clinic.home)) == len(clinic.hashes)
    clinic.device.removal().uninstall(purge=True)
    assert not clinic.state.exists()
    assert not clinic.settings.exists()
    assert len(list(clinic.scope.glob("capture-*.jpg"))) == len(clinic.hashes)
