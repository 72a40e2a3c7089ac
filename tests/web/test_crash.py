"""The process dies between an upload and its answer: at the next start it is answered, exactly once (F11)."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from agent.access.tokens import FOLDER, Role, Tokens
from agent.records.reading import open_reading
from tests.conftest import REPOSITORY
from tests.web.conftest import asking, picture
from tests.web.serve import Served, serving, write_settings

STEPS = ("before-claim", "after-claim", "before-inference", "before-answer", "answer-after-commit")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def rows(served: Served) -> tuple[list[tuple[object, ...]], int]:
    with open_reading(served.state_dir) as db:
        scans = db.execute("SELECT state, image_sha256 FROM scans ORDER BY seq").fetchall()
        (events,) = db.execute("SELECT count(*) FROM outbox WHERE type LIKE '%result%'").fetchone()
    return scans, events


@pytest.mark.fault("F11")
@pytest.mark.parametrize("step", STEPS)
def test_an_upload_is_answered_at_the_next_start_exactly_once(tmp_path: Path, step: str) -> None:
    port = free_port()
    config = write_settings(tmp_path, port=port)
    state = tmp_path / "state"
    state.mkdir()
    secret = Tokens(state / FOLDER).create("Dr Test", Role.CLINICIAN).secret
    body = asking(picture(96), patient_id="P-96")
    command = [sys.executable, "-m", "tests.faults.crashing_agent", str(config), step]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as agent:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {secret}"},
            timeout=20,
            trust_env=False,
        ) as client:
            end = time.monotonic() + 20
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert time.monotonic() < end
                time.sleep(0.05)
            with pytest.raises(httpx.TransportError):
                client.post("/api/v1/analyze", json=body)
        assert agent.wait(20) == -signal.SIGKILL
    with serving(tmp_path) as served:
        end = time.monotonic() + 20
        while rows(served) != ([("answered", rows(served)[0][0][1] if rows(served)[0] else None)], 1):
            assert time.monotonic() < end, rows(served)
            time.sleep(0.05)
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=served.address, headers=headers, timeout=20, trust_env=False) as client:
            again = client.post("/api/v1/analyze", json=body)
            assert again.status_code == 200, again.text
            assert again.json()["patient_id"] == "P-96"
            assert client.post("/api/v1/analyze", json=asking(picture(96))).status_code == 409
        assert len(rows(served)[0]) == 1


@pytest.mark.fault("F11")
def test_what_a_power_cut_left_of_an_upload_is_swept_and_its_scan_ended(tmp_path: Path) -> None:
    """Claimed and not yet durable when the power went: nobody was answered, and nothing waits for ever."""
    import os

    from agent.intake.capture import Capture
    from agent.web.uploads import Uploads

    with serving(tmp_path) as served:
        uploads = Uploads(served.state_dir)
        gone = uploads.keep(picture(97), "1" * 64, "PNG", "api", {"patient_id": "P"})
        served.daemon.store.claim("sha256:" + "1" * 64, "1" * 64, gone.path, "api", gone.stamp).result(10)
        gone.path.unlink()
        torn = uploads.keep(picture(98)[:500], "2" * 64, "PNG", "api", {})
        (torn.path.parent / ".half.png.part").write_bytes(b"x")
        (torn.path.parent / f"{'3' * 64}.json").write_bytes(b"{}")
        whole = Capture.from_bytes(torn.path, "api", torn.stamp, picture(99))
        uploads.keep(whole.data, whole.sha256, "PNG", "api", {"patient_id": "P-99"})
        hour_ago = time.time() - 3600
        for path in torn.path.parent.iterdir():
            os.utime(path, (hour_ago, hour_ago))
    with serving(tmp_path) as served:
        end = time.monotonic() + 20
        while sorted(state for state, _ in rows(served)[0]) != ["answered", "rejected"]:
            assert time.monotonic() < end, rows(served)
            time.sleep(0.05)
        left = sorted(path.name for path in torn.path.parent.iterdir())
    assert left == [f"{whole.sha256}.json", f"{whole.sha256}.png"]
