"""The metrics: what they count, that nobody is in them, and who may see them."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.access.tokens import Role
from agent.web import gpu
from agent.web.measuring import Times
from tests.fakes.certificates import CertificateAuthority
from tests.web.conftest import asking, picture, problem
from tests.web.serve import serving

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(client: httpx.Client) -> Samples:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(found: Samples, metric: str, /, **labels: str) -> float:
    return found[(metric, frozenset(labels.items()))]


def test_what_happens_is_counted(clinician: httpx.Client, stranger: httpx.Client) -> None:
    clinician.post("/api/v1/analyze", json=asking(picture(1)))
    before = samples(stranger)
    clinician.post("/api/v1/analyze", json=asking(picture(100)))
    clinician.post("/api/v1/analyze", json=asking(picture(101)[:1000]))
    after = samples(stranger)
    labels = {"state": "answered", "backend": "cpu", "reason": ""}
    assert value(after, "dermascan_captures_total", **labels) == value(before, "dermascan_captures_total", **labels) + 1
    assert value(after, "dermascan_captures_total", state="rejected", backend="", reason="truncated") >= 1
    total = {"stage": "total", "backend": "cpu"}
    quantiles = [value(after, "dermascan_stage_seconds", **total, quantile=share) for share in ("0.5", "0.95", "0.99")]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] < 30
    assert value(after, "dermascan_stage_seconds_count", **total) > value(
        before, "dermascan_stage_seconds_count", **total
    )
    assert value(after, "dermascan_stage_seconds", stage="inference", backend="cpu", quantile="0.5") > 0
    assert value(after, "dermascan_http_responses_total", route="/api/v1/analyze", status="200") >= 1
    assert value(after, "dermascan_rung_ready", rung="cpu") == 1
    assert value(after, "dermascan_ready") == 1
    assert value(after, "dermascan_outbox", state="waiting") >= 2
    assert value(after, "dermascan_captures_under_way", where="waiting") == 0
    assert value(after, "dermascan_calibration_state", dermoscope="scope-1", state="none") == 1
    assert value(after, "dermascan_disk_free_bytes") > 0
    assert value(after, "process_resident_memory_bytes") > 0


@pytest.mark.fault("F30")
def test_no_label_comes_from_a_request(clinician: httpx.Client, stranger: httpx.Client) -> None:
    stranger.get("/CANARY-PATH")
    stranger.get("/page/CANARY-FILE.js")
    clinician.get("/api/v1/scans/CANARY-SCAN")
    clinician.request("CANARY", "/api/v1/scans")
    clinician.post("/api/v1/analyze", json=asking(picture(102), patient_id="CANARY-P", body_site="CANARY-S"))
    text = stranger.get("/metrics").text
    assert "CANARY" not in text
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert "/api/v1/scans/{scan_id}" in routes
    assert len(routes) <= 17


def test_quantiles_are_of_the_newest() -> None:
    times = Times()
    assert times.quantiles() == {}
    for number in range(3000):
        times.add(float(number))
    assert times.quantiles() == {0.5: 2500.0, 0.95: 2950.0, 0.99: 2990.0}
    assert (times.count, times.total_s) == (3000, sum(range(3000)))


def test_with_tls_the_page_is_elsewhere_too_and_metrics_are_for_those_who_may(tmp_path: Path) -> None:
    issued = CertificateAuthority(tmp_path / "ca").server()
    more = f'host = "0.0.0.0"\ncert = "{issued.cert}"\nkey = "{issued.key}"\nallowed_hosts = ["derma.clinic.example"]'
    with serving(tmp_path, more=more) as served:
        port = served.address.rpartition(":")[2]
        address = f"https://127.0.0.1:{port}"
        with httpx.Client(base_url=address, verify=False, trust_env=False) as client:  # noqa: S501 - made a moment ago
            assert client.get("/healthz").status_code == 200
            assert client.get("/healthz", headers={"Host": "derma.clinic.example"}).status_code == 200
            problem(client.get("/healthz", headers={"Host": "evil.example"}), 421, "foreign-host")
            problem(client.get("/metrics"), 401, "not-signed-in")
            codes = {}
            for role in Role:
                headers = {"Authorization": f"Bearer {served.token(role)}"}
                codes[role] = client.get("/metrics", headers=headers).status_code
            assert codes == {Role.CLINICIAN: 403, Role.TECHNICIAN: 200, Role.INTEGRATION: 200}
            token = served.token()
            signed = client.post("/api/v1/session", json={"token": token}, headers={"X-DermaScan-Page": "1"})
            assert "Secure" in signed.headers["set-cookie"]


class FakeNvml:
    """The management library's calls, as its header describes them."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: Any, use: Any) -> int:  # noqa: N802
        use._obj.gpu = 37
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total, memory._obj.used = 8 << 30, 3 << 30
        return 0

    def nvmlDeviceGetName(self, device: Any, name: Any, length: int) -> int:  # noqa: N802
        name.value = b"Fake GPU"
        return 0


def test_a_gpu_is_shown_where_there_is_one(stranger: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeNvml())
    assert gpu.look() == [gpu.Gpu(0, "Fake GPU", 0.37, 3 << 30, 8 << 30)]
    found = samples(stranger)
    assert value(found, "dermascan_gpu_use_ratio", gpu="0", name="Fake GPU") == pytest.approx(0.37)
    assert value(found, "dermascan_gpu_memory_used_bytes", gpu="0", name="Fake GPU") == 3 << 30


def test_a_jetson_tells_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise OSError(name)

    load = tmp_path / "load"
    load.write_text("423\n")
    monkeypatch.setattr(ctypes, "CDLL", none)
    monkeypatch.setattr(gpu, "_JETSON", (tmp_path / "absent", load))
    assert gpu.look() == [gpu.Gpu(0, "Tegra", 0.423, 0, 0)]
    monkeypatch.setattr(gpu, "_JETSON", ())
    assert gpu.look() == []
