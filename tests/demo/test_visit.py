import json
import queue
import threading

import pytest

from agent.demo import visit as visit_module
from agent.demo.dermoscope import Habit, Shot, SimulatedDermoscope
from agent.demo.encode import Format
from agent.demo.table import Announced
from agent.demo.visit import ROUND, Step, Visit, sidecar_for, steps
from agent.intake.sidecar import parse_sidecar


@pytest.fixture
def small(monkeypatch):
    """A round of small pictures, which are drawn at once."""
    monkeypatch.setattr(visit_module, "ROUND", (Step(Habit.WHOLE, (160, 120)), Step(Habit.RENAME, (160, 120))))


@pytest.fixture
def stop():
    stop = threading.Event()
    yield stop
    stop.set()


def a_visit(tmp_path, stop, captures):
    news = queue.Queue()
    return Visit(SimulatedDermoscope(tmp_path), news.put, stop, captures=captures, gap_s=0.001), news


def test_the_round_shows_every_habit_every_format_and_one_rejection():
    assert {step.habit for step in ROUND} == {*Habit, None}
    assert {step.format for step in ROUND} == set(Format)
    assert {(1024, 768), (4000, 3000)} <= {step.size for step in ROUND}
    assert sum(step.habit is None for step in ROUND) == 1


@pytest.mark.parametrize("captures", [1, 8, 19])
def test_steps_go_round(captures):
    taken = list(steps(captures))
    assert len(taken) == captures
    assert taken[-1] == ROUND[(captures - 1) % len(ROUND)]


def test_the_next_picture_waits_for_the_answer(tmp_path, stop, small):
    visit, news = a_visit(tmp_path, stop, 3)
    visit.start()
    for number in (1, 2, 3):
        announced, shot = news.get(timeout=10), news.get(timeout=10)
        assert isinstance(announced, Announced)
        assert isinstance(shot, Shot)
        assert shot.path.name == announced.name
        assert len(list(tmp_path.glob("*.jpg"))) == number
        assert not visit.over
        visit.ended(shot.path.name)
    visit.join()
    assert visit.over
    assert visit.failure is None


def test_a_spoilt_file_holds_nobody_up_but_is_waited_for(tmp_path, stop, monkeypatch):
    monkeypatch.setattr(visit_module, "ROUND", (Step(None), Step(Habit.WHOLE, (160, 120))))
    visit, news = a_visit(tmp_path, stop, 2)
    visit.start()
    shots = [news.get(timeout=10) for _ in range(4)][1::2]
    visit.ended(shots[1].path.name)
    assert not visit.over
    visit.ended(shots[0].path.name)
    visit.join()
    assert visit.failure is None


def test_an_answer_that_does_not_come_is_a_failure(tmp_path, stop, small, monkeypatch):
    monkeypatch.setattr(visit_module, "ANSWER_TIMEOUT_S", 0.05)
    visit, _ = a_visit(tmp_path, stop, 3)
    visit.start()
    visit.join()
    assert visit.failure is not None
    assert "SYN_00001.jpg: no answer" in visit.failure


def test_a_visit_can_be_broken_off(tmp_path, stop, small):
    visit, news = a_visit(tmp_path, stop, None)
    visit.start()
    news.get(timeout=10)
    stop.set()
    visit.join()
    assert visit.failure is None


def test_a_folder_that_cannot_be_written_is_said(tmp_path, stop, small):
    visit, _ = a_visit(tmp_path / "captures", stop, 3)
    (tmp_path / "captures").rmdir()
    visit.start()
    visit.join()
    assert "cannot write" in visit.failure


@pytest.mark.parametrize("seed", range(20))
def test_the_sidecar_is_one_that_intake_takes_whole(seed):
    sidecar = parse_sidecar(json.dumps(sidecar_for(seed, seed)).encode(), "x.json")
    assert sidecar.warning is None
    assert None not in (sidecar.patient_id, sidecar.body_site, sidecar.age, sidecar.sex, sidecar.skin_type)
    assert sidecar.patient_id.startswith("SYN_")
