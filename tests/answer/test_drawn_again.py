"""Overlays that a crash or a full disk left out: of the very picture, wherever it lies, or of none (F03, F04, F06)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.intake.picture import DecodeLimits
from agent.publish import Unfiled
from tests.agent.test_publish import FakeStore, unfiled

pytestmark = pytest.mark.fault("F06")


@pytest.fixture
def answered(tmp_path: Path, analysed: Callable[..., Any], capture: Any) -> FakeStore:
    """A scan that was answered; its picture lies in the dermoscope's folder, its files are missing."""
    (tmp_path / "scope").mkdir()
    (tmp_path / "results").mkdir()
    store = FakeStore(tmp_path / "results", "a")
    store.path = tmp_path / "scope" / "a.jpg"
    store.path.write_bytes(capture.data)
    store.result = analysed().answer.model_dump_json()
    return store


def files(store: FakeStore) -> set[str]:
    return {path.name for path in store.results_folder.iterdir()}


def test_the_overlay_is_drawn_again_from_the_picture(answered: FakeStore) -> None:
    unfiled(answered).look()
    assert (files(answered), answered.written) == ({"a.json", "a.png"}, ["a"])


def test_it_is_found_under_its_other_name(answered: FakeStore) -> None:
    renamed = answered.path.rename(answered.path.with_name("renamed.jpg"))
    answered.places = [answered.path, renamed]
    unfiled(answered).look()
    assert files(answered) == {"a.json", "a.png"}


@pytest.mark.fault("F04")
def test_another_picture_under_its_name_is_never_drawn(answered: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
    answered.path.write_bytes(answered.path.read_bytes() + b"\0")
    unfiled(answered).look()
    assert (files(answered), answered.written) == ({"a.json"}, ["a"])
    assert "no overlay, its picture is no longer where it was" in caplog.text


@pytest.mark.fault("F03")
def test_while_the_folder_is_away_the_answer_is_written_and_the_overlay_when_it_is_back(answered: FakeStore) -> None:
    away = [True]
    again = Unfiled(answered, DecodeLimits(), lambda _: away[0])  # type: ignore[arg-type]
    there = answered.path.parent
    elsewhere = there.rename(there.with_name("elsewhere"))
    again.look()
    assert (files(answered), answered.written) == ({"a.json"}, [])
    (answered.results_folder / "a.json").unlink()
    again.look()
    assert files(answered) == set(), "it is not written at each look"
    elsewhere.rename(there)
    away[0] = False
    again.look()
    assert (files(answered), answered.written) == ({"a.json", "a.png"}, ["a"])


def test_a_pipe_in_its_place_holds_nothing_up(answered: FakeStore) -> None:
    answered.path.unlink()
    os.mkfifo(answered.path)
    unfiled(answered).look()
    assert (files(answered), answered.written) == ({"a.json"}, ["a"])
