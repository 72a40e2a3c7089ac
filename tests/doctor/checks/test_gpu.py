"""The GPU: asked in a process of its own, and only where the settings use one (F13)."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from agent.doctor.checks import gpu as check
from agent.doctor.checks.gpu import CHECK
from agent.doctor.finding import Outcome
from engines.tensorrt.gpu import Gpu, NoGpu
from tests.doctor.conftest import look

WITH_GPU = ('ladder = ["cpu"]', 'ladder = ["tensorrt", "cpu"]')


def test_it_is_asked_only_where_it_is_used(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "probe_apart", lambda: pytest.fail("it was asked"))
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)


def test_a_card(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "probe_apart", lambda: Gpu("Orin Nano", (8, 7), 8 << 30, "L4T 36.4", tegra=True))
    told = look(CHECK, make_place(WITH_GPU))
    assert told.ok
    assert told.findings[0].sentence == "Orin Nano, 8 GB, driver L4T 36.4."


def test_no_card(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Gpu:
        raise NoGpu("the GPU is not ready yet; wait a minute")

    monkeypatch.setattr(check, "probe_apart", none)
    finding = look(CHECK, make_place(WITH_GPU)).one(Outcome.WARNING)
    assert "Captures are answered by: cpu" in finding.sentence
    assert finding.remedy == "wait a minute"
    alone = ('ladder = ["cpu"]', 'ladder = ["tensorrt"]')
    assert look(CHECK, make_place(alone)).one(Outcome.FAILED, "Nothing else may answer")


@pytest.mark.fault("F13")
def test_a_driver_that_crashes_who_asks(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(command: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -11, "", "")

    monkeypatch.setattr("engines.tensorrt.gpu.subprocess.run", crash)
    assert "signal 11" in look(CHECK, make_place(WITH_GPU)).one(Outcome.WARNING).sentence
