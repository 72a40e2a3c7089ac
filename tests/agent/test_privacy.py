"""Pseudonyms, and that a patient's own id goes nowhere (F30)."""

from __future__ import annotations

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.answer.oneshot import analyse_all, open_setting
from agent.answer.pipeline import Analysis
from agent.config import ConfigError, load_config
from agent.privacy import Pseudonyms, read_pseudonyms
from engines.bundle import load_bundle
from tests.fakes.stand_in_cloud import Mode, http, stand_in

KEY = bytes(range(32))
CANARY = "canary-4711-ä"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "pseudonym.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


@pytest.mark.fault("F30")
def test_a_pseudonym_is_the_keyed_hash_of_the_id(key_file: Path) -> None:
    made = read_pseudonyms(key_file)
    assert made.of("P-1") == hmac.new(KEY, b"P-1", hashlib.sha256).hexdigest()
    assert made.of("P-1") != made.of("P-2") != Pseudonyms(KEY[::-1]).of("P-2")
    assert made.of(" P-1\n") == made.of("P-1")
    assert made.of(unicodedata.normalize("NFD", CANARY)) == made.of(CANARY)
    assert made.of(None) is made.of("") is made.of("  ") is None
    assert made.of("\udc80") is not None, "a name that is no Unicode is a name"


@pytest.mark.fault("F30")
def test_the_key_is_not_shown() -> None:
    assert repr(Pseudonyms(KEY)) == "Pseudonyms(...)"


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Path.unlink, "there is no such file; make one for the whole clinic with: "),
        (lambda path: path.write_bytes(KEY[:31]), "it holds 31 bytes where 32 are the least; make one"),
        (lambda path: path.write_bytes(b""), "it holds 0 bytes"),
        (lambda path: path.write_bytes(bytes(32)), "what it holds is not random; make one"),
        (lambda path: path.write_bytes(b"x" * 5000), "cannot be read .it is larger than 4096 bytes"),
        (lambda path: path.chmod(0o644), r"everybody on this machine may open it \(mode 0644\); take that away"),
        (lambda path: path.chmod(0o602), r"\(mode 0602\)"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
)
def test_a_key_file_that_is_no_secret_is_refused(
    key_file: Path, change: Callable[[Path], object], sentence: str
) -> None:
    change(key_file)
    with pytest.raises(ConfigError, match=f"pseudonym.key: not usable as privacy.pseudonym_key_file: .*{sentence}"):
        read_pseudonyms(key_file)


def test_the_group_may_read_it_as_a_service_s_credential(key_file: Path) -> None:
    key_file.chmod(0o440)
    assert read_pseudonyms(key_file).of("P-1")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "lesion.png"
    rgb = np.random.default_rng(1).integers(40, 200, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(rgb, (800, 600), interpolation=cv2.INTER_CUBIC))
    path.with_suffix(".json").write_text(json.dumps({"patient_id": CANARY}))
    return path


Answered = Callable[[Mode], tuple[Analysis, list[bytes]]]


@pytest.fixture
def answered(
    tmp_path: Path, demo_bundle: Path, key_file: Path, capture: Path, write_config: Callable[..., Path]
) -> Iterator[Answered]:
    """Answer the capture with the ladder cloud, CPU; also what the worker processes were started with."""
    with stand_in(tmp_path / "cloud", demo_bundle) as server:
        section = f"""
[cloud]
url = "{server.url}"
ca = "{server.ca.cert}"
token_file = "token"

[privacy]
pseudonym_key_file = "{key_file.name}"

[store]"""
        (tmp_path / "token").write_text("t0ken\n")
        # A deadline that a machine with other things to do keeps too.
        changes = (('ladder = ["cpu"]', 'ladder = ["cloud", "cpu"]'), ("deadline_s = 3.0", "deadline_s = 20.0"))
        config = load_config(write_config(*changes, ("\n[store]", section)))
        setting = open_setting(load_bundle(demo_bundle), config)
        setting.ladder.start()

        def answered(mode: Mode) -> tuple[Analysis, list[bytes]]:
            assert all(rung.runner.wait_ready(20) for rung in setting.ladder.rungs)
            pids = [rung.runner.worker.pid for rung in setting.ladder.rungs[:1]]  # type: ignore[attr-defined]
            started = [Path(f"/proc/{pid}/{what}").read_bytes() for pid in pids for what in ("cmdline", "environ")]
            server.be(mode)
            with ThreadPoolExecutor(1) as pool:
                (item,) = analyse_all([capture], setting, pool)
            assert isinstance(item.outcome, Analysis)
            return item.outcome, [*started, *(json.dumps(asked.body).encode() for asked in server.asked)]

        try:
            yield answered
        finally:
            setting.ladder.stop()


@pytest.mark.fault("F30")
def test_the_cloud_is_told_the_pseudonym_and_nobody_the_id(
    answered: Answered, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    analysis, left = answered(Mode())
    assert analysis.answer.backend == "cloud", analysis.answer.passed_over
    assert analysis.answer.patient_id == CANARY
    pseudonym = Pseudonyms(KEY).of(CANARY)
    assert pseudonym is not None
    assert json.loads(left[-1])["patient_id"] == pseudonym
    assert json.loads(left[-1])["clinic_id"] == "clinic-1"
    out, err = capfd.readouterr()
    for text in (*left, out.encode(), err.encode(), caplog.text.encode()):
        assert b"canary" not in text
    assert pseudonym not in out + err + caplog.text


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    "mode",
    [
        Mode(reply=lambda right: http(500, b"canary-from-the-cloud")),
        Mode(change=lambda right: right["diagnosis"].update(primary="canary")),
        Mode(change=lambda right: right["diagnosis"]["all_classes"].update(canary=0.5)),
        Mode(change=lambda right: right.update(model_version="canary")),
    ],
)
def test_neither_side_s_words_are_in_the_reason_why_the_cloud_did_not_answer(
    answered: Answered, mode: Mode, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    analysis, _ = answered(mode)
    assert analysis.answer.backend == "cpu"
    out, err = capfd.readouterr()
    reasons = "".join(passed.reason for passed in analysis.answer.passed_over)
    assert "the cloud" in reasons
    assert "canary" not in reasons + out + err + caplog.text
