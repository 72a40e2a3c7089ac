"""The cloud backend against a real HTTPS server: what is sent, what is taken, and each way to fail (F26, F30)."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import load_bundle
from engines.cloud.answer import CloudFailed
from engines.cloud.backend import Cloud, encode_png, open_backend
from engines.golden import check_output, golden_check
from engines.preprocess import normalise, restore
from tests.engines.cloud.faults import QUICK, SLOW
from tests.fakes.bundles import copy_bundle
from tests.fakes.stand_in_cloud import ATTENTION, Mode, StandInCloud, http, stand_in

CANARY = "canary-4711"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Iterator[StandInCloud]:
    with stand_in(tmp_path_factory.mktemp("cloud"), demo_bundle) as server:
        yield server


@pytest.fixture
def ask(cloud: StandInCloud, demo_bundle: Path) -> Iterator[Callable[..., Cloud]]:
    opened = []

    def ask(**options: Any) -> Cloud:
        given = {"url": cloud.url, "clinic_id": "clinic-1", "ca": str(cloud.ca.cert), **options}
        opened.append(open_backend(demo_bundle, **given))
        return opened[-1]

    cloud.asked.clear()
    yield ask
    cloud.be()
    for backend in opened:
        backend.close()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def images(demo_bundle: Path, *seeds: int) -> np.ndarray:
    contract = load_bundle(demo_bundle, check_hashes=False).manifest.input
    return np.concatenate([normalise(picture(seed), contract) for seed in seeds])


def test_the_picture_is_sent_to_the_last_bit_and_nothing_beside_it(
    ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path
) -> None:
    output = ask().run_for(images(demo_bundle, 1), ("p" * 64,), 5.0)
    check_output(output, 1)
    np.testing.assert_allclose(output.probabilities[0], (0.4, *(0.1,) * 6), atol=1e-6)
    (asked,) = cloud.asked
    assert asked.line == "POST /api/v1/analyze HTTP/1.1"
    assert set(asked.body) == {"image", "clinic_id", "patient_id"}
    assert (asked.body["clinic_id"], asked.body["patient_id"]) == ("clinic-1", "p" * 64)
    np.testing.assert_array_equal(asked.rgb, picture(1))


def test_the_cloud_s_own_pipeline_sees_the_same_input(demo_bundle: Path) -> None:
    """Decoded and preprocessed as any capture is, the picture gives the network's input again, and so the answer."""
    from agent.intake.decode import decode
    from agent.intake.picture import DecodeLimits
    from engines.preprocess import preprocess

    contract = load_bundle(demo_bundle, check_hashes=False).manifest.input
    before = images(demo_bundle, 2)
    rgb = decode(encode_png(restore(before, contract)[0]), DecodeLimits(), "sent").rgb
    np.testing.assert_array_equal(preprocess(rgb, contract), before)


def test_every_level_of_every_channel_comes_back(demo_bundle: Path) -> None:
    contract = load_bundle(demo_bundle, check_hashes=False).manifest.input
    square = np.resize(np.arange(256, dtype=np.uint8), (224, 224, 3))
    np.testing.assert_array_equal(restore(normalise(square, contract), contract)[0], square)


def test_those_who_wait_together_are_asked_for_together_and_each_gets_its_own(
    ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path
) -> None:
    golden = golden_check(load_bundle(demo_bundle, check_hashes=False))
    cloud.be(Mode(pause_s=0.5))
    started = time.monotonic()
    batch = np.concatenate([images(demo_bundle, 1), golden.images, images(demo_bundle, 3)])
    output = ask().run_for(batch, ("a", None, "c"), 20.0)
    assert time.monotonic() - started < 1.4, "three of half a second, side by side"
    check_output(output, 3)
    np.testing.assert_allclose(output.probabilities[1], golden.probabilities, atol=1e-6)
    np.testing.assert_allclose(output.probabilities[2], output.probabilities[0])
    assert {asked.body["patient_id"] for asked in cloud.asked} == {"a", None, "c"}


def test_the_heatmap_comes_back_as_attention(ask: Callable[..., Cloud], demo_bundle: Path) -> None:
    attention = ask().run(images(demo_bundle, 1)).attention[0]
    assert attention.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.corrcoef(attention.ravel(), ATTENTION.ravel())[0, 1] > 0.99


@pytest.mark.fault("F26")
@pytest.mark.parametrize("name", QUICK)
def test_what_is_wrong_is_said_at_once(
    ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path, name: str
) -> None:
    how, sentence = QUICK[name]
    backend = ask()
    cloud.be(how(cloud))
    started = time.monotonic()
    with pytest.raises(CloudFailed, match=sentence) as caught:
        backend.run_for(images(demo_bundle, 1), (CANARY,), 5.0)
    assert time.monotonic() - started < 4.0
    assert CANARY not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
    assert all("elsewhere" not in asked.line for asked in cloud.asked), "a redirect is not followed"
    cloud.be()
    check_output(backend.run(images(demo_bundle, 1)), 1)


@pytest.mark.fault("F26")
@pytest.mark.parametrize("name", SLOW)
def test_what_takes_too_long_is_left_within_the_time_given(
    ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path, name: str
) -> None:
    how, sentence = SLOW[name]
    backend = ask()
    backend.run(images(demo_bundle, 1))  # what is loaded once is loaded
    cloud.be(how(cloud))
    started = time.monotonic()
    with pytest.raises(CloudFailed, match=sentence):
        backend.run_for(images(demo_bundle, 1), (CANARY,), 1.0)
    # A time-out is a step's; the ladder's deadline, which ends the process, is tested with the ladder.
    assert 0.5 < time.monotonic() - started < 2.5


@pytest.mark.fault("F26")
def test_packets_that_nobody_answers_cost_the_connect_time_out_alone(
    ask: Callable[..., Cloud], demo_bundle: Path
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        while True:  # until the kernel drops what wants to connect
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
            if not select.select([], waiting[-1:], [], 0.2)[1]:
                break
        backend = ask(url=f"https://localhost:{full.getsockname()[1]}", connect_s=0.4)
        started = time.monotonic()
        with pytest.raises(CloudFailed, match="could not be reached"):
            backend.run_for(images(demo_bundle, 1), (CANARY,), 5.0)
        assert 0.3 < time.monotonic() - started < 2.0
        for one in waiting:
            one.close()


@pytest.mark.fault("F26")
def test_without_time_nobody_is_asked(ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path) -> None:
    with pytest.raises(CloudFailed, match="no time was left"):
        ask().run_for(images(demo_bundle, 1), (CANARY,), 0.0)
    assert cloud.asked == []


def test_more_than_the_core_does_not_matter(ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path) -> None:
    cloud.be(Mode(reply=lambda right: http(200, json.dumps({**right, "scan_id": "x", "patient_id": None}).encode())))
    check_output(ask().run(images(demo_bundle, 1)), 1)


def test_a_token_is_shown_and_a_wrong_one_refused(tmp_path: Path, demo_bundle: Path) -> None:
    token = tmp_path / "token"
    with stand_in(tmp_path / "cloud", demo_bundle, token=(known := "s3cret")) as server:
        for text, right in ((f"{known}\n", True), ("other", False)):
            token.write_text(text)
            backend = open_backend(
                demo_bundle, url=server.url, clinic_id="c", ca=str(server.ca.cert), token_file=str(token)
            )
            if right:
                check_output(backend.run(images(demo_bundle, 1)), 1)
            else:
                with pytest.raises(CloudFailed, match=r"\(401\)") as caught:
                    backend.run(images(demo_bundle, 1))
                assert "other" not in str(caught.value)
            backend.close()


def test_the_device_s_certificate_is_shown(tmp_path: Path, demo_bundle: Path) -> None:
    with stand_in(tmp_path, demo_bundle, mutual=True) as server:
        about = {"url": server.url, "clinic_id": "c", "ca": str(server.ca.cert)}
        device, late = server.ca.device("device-1"), server.ca.device("late", expired=True)
        backend = open_backend(demo_bundle, cert=str(device.cert), key=str(device.key), **about)
        backend.run(images(demo_bundle, 1))
        assert server.asked[0].device == "device-1"
        backend.close()
        for options in ({}, {"cert": str(late.cert), "key": str(late.key)}):
            refused = open_backend(demo_bundle, **about, **options)
            with pytest.raises(CloudFailed, match=r"no TLS connection|broke off"):
                refused.run(images(demo_bundle, 1))
            refused.close()
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ca": "{}/absent.pem"}, r"absent.pem: cannot be used as cloud.ca \(No such file"),
        ({"ca": "{}/rubbish"}, "cannot be used as cloud.ca"),
        ({"cert": "{}/rubbish", "key": "{}/rubbish"}, "cannot be used as cloud.cert with cloud.key"),
        ({"token_file": "{}/absent"}, r"cannot be read as cloud.token_file \(No such file"),
        ({"token_file": "{}/rubbish"}, "must hold one token"),
        ({"token_file": "{}/empty"}, "must hold one token"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, demo_bundle: Path, options: dict[str, str], sentence: str
) -> None:
    (tmp_path / "rubbish").write_text("no pem, no token")
    (tmp_path / "empty").write_text("\n")
    given = {name: value.format(tmp_path) for name, value in options.items()}
    with pytest.raises(CloudFailed, match=sentence):
        open_backend(demo_bundle, url="https://localhost:1", clinic_id="c", **given)


def test_a_bundle_whose_pictures_cannot_be_undone_is_refused(tmp_path: Path, demo_bundle: Path) -> None:
    from engines.backend import BundleError

    bundle = copy_bundle(demo_bundle, tmp_path / "b", lambda manifest: manifest["input"].update(mean=[1e6, 0.5, 0.5]))
    with pytest.raises(BundleError, match="pictures cannot be sent"):
        open_backend(bundle, url="http://localhost:1", clinic_id="c")


def test_no_proxy_and_no_password_is_taken_from_the_environment(
    ask: Callable[..., Cloud], cloud: StandInCloud, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login me password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    check_output(ask().run(images(demo_bundle, 1)), 1)
    assert "authorization" not in cloud.asked[0].headers
