"""The real HTTP server with the real pipeline and the demo bundle."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from agent.answer.scan import Answer
from cloud import server as server_module
from cloud.analyser import Analyser
from cloud.server import PATH, CloudServer, Doorkeeper, server_context
from engines.backend import EngineError
from engines.bundle import load_bundle
from engines.classes import CLASSES
from tests.fakes.certificates import CertificateAuthority

CANARY = "CANARY-patient-4711"


def picture(kind: str = "PNG", size: tuple[int, int] = (320, 240)) -> str:
    """A synthetic lesion, in base64."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    far = np.hypot((rows - size[1] / 2) / size[1], (columns - size[0] / 2) / size[1])
    light = np.where(far < 0.25, 0.45, 1.0)[..., None] * np.array([215.0, 170.0, 150.0])
    noise = np.random.default_rng(1).normal(0, 12, (*light.shape[:2], 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(light + noise, 5, 250).astype(np.uint8)).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def body(**changes: object) -> dict[str, object]:
    return {"image": picture(), "clinic_id": "clinic-a", "patient_id": CANARY} | changes


@pytest.fixture(scope="module")
def analyser(demo_bundle: Path) -> Iterator[Analyser]:
    analyser = Analyser(load_bundle(demo_bundle))
    analyser.start()
    assert analyser.wait_ready(25)
    yield analyser
    analyser.stop()


@pytest.fixture
def serve(analyser: Analyser) -> Iterator[Callable[..., CloudServer]]:
    started: list[CloudServer] = []

    def begin(doorkeeper: Doorkeeper | None = None, **more: object) -> CloudServer:
        started.append(CloudServer(("127.0.0.1", 0), analyser, doorkeeper or Doorkeeper(), **more))
        started[-1].start()
        return started[-1]

    yield begin
    for server in started:
        server.stop()


@pytest.fixture
def client(serve: Callable[..., CloudServer]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{serve().server_port}", timeout=15) as client:
        yield client


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_answer_is_the_designs(client, kind):
    response = client.post(PATH, json=body(image=picture(kind)))
    assert response.status_code == 200, response.text
    answer = Answer.model_validate_json(response.content)
    assert set(answer.diagnosis.all_classes) == set(CLASSES)
    assert sum(answer.diagnosis.all_classes.values()) == pytest.approx(1, abs=1e-3)
    assert (answer.clinic_id, answer.patient_id, answer.backend) == ("clinic-a", CANARY, "cpu")
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer.attention_map)))
    assert (heatmap.format, heatmap.size) == ("PNG", (224, 224))
    core = {"diagnosis", "attention_map", "recommendation", "model_version", "latency_ms"}
    assert core <= set(response.json())


def test_a_connection_is_kept_for_the_next_picture(client):
    for _ in range(3):
        response = client.post(PATH, json=body())
        assert response.status_code == 200
        assert response.headers.get("Connection") != "close"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "Invalid JSON"),
        (b"[1]", 400, "the body"),
        (b"\xff" * 20, 400, "Invalid JSON"),
        (json.dumps({"clinic_id": "c", "image": None}).encode(), 400, "image"),
        (json.dumps({"image": ""}).encode(), 400, "clinic_id"),
        (json.dumps({"image": "", "clinic_id": "a/b"}).encode(), 400, "clinic_id"),
        (json.dumps({"image": "no base64!", "clinic_id": "c"}).encode(), 400, "base64"),
        (json.dumps({"image": "é", "clinic_id": "c"}).encode(), 400, "base64"),
        (json.dumps({"image": "", "clinic_id": "c"}).encode(), 422, "empty"),
        (
            json.dumps({"image": base64.b64encode(b"GIF89a" * 9).decode(), "clinic_id": "c"}).encode(),
            422,
            "PNG or JPEG",
        ),
        (json.dumps({"image": picture()[: 4 * 800], "clinic_id": "c"}).encode(), 422, "ends before"),
    ],
)
def test_what_is_wrong_is_said(client, content, status, words):
    response = client.post(PATH, content=content)
    assert response.status_code == status
    assert words in response.json()["error"]


@pytest.mark.fault("F30")
def test_the_patient_is_in_no_log_and_no_refusal(client, caplog):
    caplog.set_level(logging.DEBUG)
    responses = [
        client.post(PATH, json=body(image="rubbish!")),
        client.post(PATH, json=body(patient_id=CANARY * 100)),
        client.post(PATH, content=f'{{"patient_id": "{CANARY}", '.encode()),
        client.post(f"{PATH}?patient={CANARY}", json=body()),
        client.get(f"/{CANARY}"),
    ]
    assert [response.status_code for response in responses] == [400, 400, 400, 404, 404]
    assert all(CANARY not in response.text for response in responses)
    assert client.post(PATH, json=body()).status_code == 200
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert any(PATH in line for line in ours)
    assert all(CANARY not in line for line in ours)


def test_a_body_is_bounded(client, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_BODY", 1000)
    response = client.post(PATH, json=body())
    assert response.status_code == 413
    assert response.headers["Connection"] == "close"


def test_a_body_without_length_is_refused(client):
    response = client.post(PATH, content=iter([b"{}", b"{}"]))
    assert response.status_code == 411


def test_a_drip_of_bytes_ends(serve, monkeypatch):
    monkeypatch.setattr(server_module, "READ_S", 0.3)
    with socket.create_connection(("127.0.0.1", serve().server_port), 10) as drip:
        drip.sendall(b"POST /api/v1/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert b"408" in drip.recv(4096).split(b"\r\n")[0]


def test_a_silent_client_holds_up_nobody(serve, ca):
    server = ca.server()
    listening = serve(Doorkeeper(server_context(str(server.cert), str(server.key), None)))
    address = ("127.0.0.1", listening.server_port)
    with socket.create_connection(address), socket.create_connection(address) as half:
        half.sendall(b"\x16\x03\x01")
        context = ssl.create_default_context(cafile=str(ca.cert))
        response = httpx.post(f"https://localhost:{address[1]}{PATH}", json=body(), verify=context, timeout=15)
        assert response.status_code == 200


def test_too_many_in_work_are_told_to_come_back(serve, analyser, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slowly(_body: bytes, _device: str | None) -> Answer:
        entered.set()
        leave.wait(10)
        raise EngineError("it was a test")

    monkeypatch.setattr(analyser, "analyse", slowly)
    monkeypatch.setattr(server_module, "MAX_IN_WORK", 1)
    url = f"http://127.0.0.1:{serve().server_port}{PATH}"
    first: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: first.append(httpx.post(url, json=body(), timeout=15)))
    thread.start()
    assert entered.wait(10)
    refused = httpx.post(url, json=body(), timeout=15)
    leave.set()
    thread.join()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert first[0].status_code == 503
    assert first[0].json() == {"error": "no engine answered"}, "the engine's words stay here"


def test_health(serve):
    port = serve(consumer_state=lambda: {"connected": True, "new": 7}).server_port
    response = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=15)
    assert response.status_code == 200
    assert response.json()["ready"] is True
    assert response.json()["consumer"] == {"connected": True, "new": 7}


def test_an_engine_that_is_not_ready(demo_bundle):
    idle = Analyser(load_bundle(demo_bundle, check_hashes=False))
    server = CloudServer(("127.0.0.1", 0), idle, Doorkeeper())
    server.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        assert httpx.get(f"{base}/healthz", timeout=15).status_code == 503
        assert httpx.post(f"{base}{PATH}", json=body(), timeout=15).status_code == 503
    finally:
        server.stop()
        idle.stop()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Basic secret"}, 401)]
    + [({"Authorization": f"{word} s3cret-token"}, 200) for word in ("Bearer", "bearer")],
)
def test_the_token_is_asked_for(serve, headers, status):
    port = serve(Doorkeeper(token="s3cret-token")).server_port  # noqa: S106
    response = httpx.post(f"http://127.0.0.1:{port}{PATH}", json=body(), headers=headers, timeout=15)
    assert response.status_code == status


def test_a_certificate_is_asked_for_and_names_the_device(serve, ca, tmp_path):
    server, device = ca.server(), ca.device("room-7")
    port = serve(Doorkeeper(server_context(str(server.cert), str(server.key), str(ca.cert)))).server_port

    def post(cert: tuple[Path, Path] | None) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(ca.cert))
        if cert is not None:
            context.load_cert_chain(*cert)
        return httpx.post(f"https://localhost:{port}{PATH}", json=body(), verify=context, timeout=15)

    answered = post((device.cert, device.key))
    assert answered.status_code == 200
    assert answered.json()["device_id"] == "room-7"
    expired = ca.device("old", expired=True)
    stranger = CertificateAuthority(tmp_path / "other", "other CA").device("room-7")
    for cert in (None, (expired.cert, expired.key), (stranger.cert, stranger.key)):
        with pytest.raises(httpx.TransportError):
            post(cert)


def test_a_request_line_that_is_none(serve):
    with socket.create_connection(("127.0.0.1", serve().server_port), 10) as rude:
        rude.sendall(b"\x00\x01\x02 what is this\r\n\r\n")
        assert b"400" in rude.recv(4096)
