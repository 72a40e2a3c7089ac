"""``dermascan feedback`` and ``dermascan queue``, with the agent and without."""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.intake.reasons import Reason
from agent.records import commands, feedback_command
from agent.records.reading import agent_seems_to_run
from agent.records.spool import SPOOL, Spool
from agent.records.store import Store

Run = Callable[..., int]


@pytest.fixture
def run(state_dir: Path, tmp_path: Path) -> Run:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[device]\nid = "device-1"\nclinic_id = "clinic-1"\nstate_dir = "{state_dir}"\n'
        f'[[dermoscope]]\nid = "scope-1"\nfolder = "{tmp_path / "scope"}"\n'
        f'[inference]\nbundle = "{tmp_path / "bundle"}"\n'
    )

    def run_it(*words: str) -> int:
        parser = argparse.ArgumentParser()
        commands.register(parser.add_subparsers())
        arguments = parser.parse_args([*words, "--config", str(config)])
        code: int = arguments.run(arguments)
        return code

    return run_it


@pytest.fixture
def filled(open_store, claim, answer_json) -> tuple[Store, dict[str, str]]:
    store = open_store()
    ids = {name: claim(store, name).scan_id for name in ("answered", "rejected", "received")}
    store.answer(ids["answered"], answer_json(ids["answered"]), "cpu").result(10)
    store.reject(ids["rejected"], Reason.BLANK, "The picture is blank.").result(10)
    return store, ids


@pytest.fixture
def agent(filled, state_dir):
    """What of the agent takes up the spool, as it runs in the daemon."""
    stop = threading.Event()
    spool = Spool(filled[0], state_dir, stop)
    spool.start()
    yield
    stop.set()
    spool.join()


def nevus(scan_id: str, *more: str) -> tuple[str, ...]:
    return ("feedback", scan_id, "--diagnosis", "melanocytic_nevus", "--source", "clinician", *more)


def test_a_verdict_is_recorded_by_the_running_agent(filled, agent, run, capsys):
    store, ids = filled
    assert run(*nevus(ids["answered"], "--by", "Dr X", "--note", "seen again")) == 0
    said = capsys.readouterr().out
    assert "answered.jpg: melanocytic nevus, where the model suggested melanoma, melanoma risk 70.0%" in said
    (kept,) = store.verdicts(ids["answered"])
    assert f"recorded as verdict {kept.verdict_id}" in said
    assert (kept.given_by, kept.note) == ("Dr X", "seen again")
    assert run("feedback", ids["answered"], "--diagnosis", "melanoma", "--source", "histopathology", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["agreement"], told["recorded"]) == ("confirmation", True)
    assert [one.verdict_id for one in store.verdicts(ids["answered"])] == [kept.verdict_id, told["verdict_id"]]


def test_a_verdict_is_withdrawn_and_stays_in_the_books(filled, agent, run, capsys):
    store, ids = filled
    withdraw = ("feedback", ids["answered"], "--withdraw", "--source", "clinician")
    assert run(*withdraw) == 1
    assert capsys.readouterr().err, "nothing stands that could be withdrawn"
    assert run(*nevus(ids["answered"])) == 0
    capsys.readouterr()
    assert run(*withdraw, "--by", "Dr X") == 0
    assert "answered.jpg: the verdict that stood is withdrawn" in capsys.readouterr().out
    first, second = store.verdicts(ids["answered"])
    assert (first.diagnosis, second.diagnosis) == ("melanocytic_nevus", None)
    assert (second.supersedes, second.given_by, second.agreement) == (first.verdict_id, "Dr X", "withdrawn")
    with pytest.raises(SystemExit) as stopped:
        run(*withdraw, "--diagnosis", "melanoma")
    assert stopped.value.code == 2


def test_without_the_agent_it_is_kept_for_it(filled, run, capsys, state_dir, open_store):
    filled[0].close()
    scan_id = filled[1]["rejected"]
    (state_dir / "agent.lock").write_text("4194304999\n")  # no process has this number
    assert run(*nevus(scan_id)) == 0
    said = capsys.readouterr().out
    assert "the capture was refused" in said
    assert "kept: the agent records it as soon as it runs" in said
    store = open_store()
    Spool(store, state_dir, threading.Event()).take_up()
    assert [one.diagnosis for one in store.verdicts(scan_id)] == ["melanocytic_nevus"]


def test_a_busy_agent_is_not_waited_for_without_end(filled, run, capsys, monkeypatch):
    monkeypatch.setattr(feedback_command, "WAIT_S", 0.1)
    assert run(*nevus(filled[1]["answered"], "--json")) == 0
    assert json.loads(capsys.readouterr().out)["recorded"] is False


def test_what_cannot_be_judged_is_told_and_nothing_is_kept(filled, run, capsys, state_dir):
    assert run(*nevus("nobody")) == 1
    assert "scan nobody is not in the database" in capsys.readouterr().err
    assert run(*nevus(filled[1]["received"])) == 1
    assert "has not been answered yet" in capsys.readouterr().err
    for words in (
        nevus("x", "--diagnosis", "mole"),
        nevus("x", "--source", "me"),
        nevus("x", "--by", " "),
        nevus("x", "--note", "x" * 10_001),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(*words)
        assert stopped.value.code == 2
    assert not (state_dir / SPOOL).exists()


def test_a_refusal_of_the_agent_is_told(filled, agent, run, capsys, monkeypatch):
    from agent.records.store import VerdictRefused

    def refuse(*_args: object, **_keywords: object) -> None:
        raise VerdictRefused("not that one")

    monkeypatch.setattr(filled[0], "verdict", refuse)
    assert run(*nevus(filled[1]["answered"])) == 1
    assert capsys.readouterr().err == "not that one\n"
    assert run("queue", "--json") == 0
    assert json.loads(capsys.readouterr().out)["spool_refused"] == 1


def test_the_help_says_what_stays_on_the_device(run, capsys):
    with pytest.raises(SystemExit):
        run("feedback", "--help")
    assert capsys.readouterr().out.count("never leaves this device") == 2


def test_what_is_no_utf8_at_the_shell_is_kept_as_text(filled, agent, run):
    assert run(*nevus(filled[1]["answered"], "--by", os.fsdecode(b"M\xfcller"))) == 0
    assert [one.given_by for one in filled[0].verdicts(filled[1]["answered"])] == ["M\ufffdller"]


@pytest.mark.parametrize("words", [("queue",), ("queue", "stats")])
def test_queue_says_how_many_there_are(filled, run, capsys, words):
    store, ids = filled
    store.verdict(ids["answered"], "melanoma", "clinician").result(10)
    rows = store.outbox_due(10, fresh_after_seq=0, exclude=())
    store.outbox_acknowledge([rows[1].event_id]).result(10)
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert "waiting       2  (1 feedback, 1 results)" in said
    assert "acknowledged  1" in said
    assert run(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["waiting"], told["acknowledged"], told["dead"], told["spool_waiting"]) == (2, 1, 0, 0)


@pytest.mark.fault("F21")
def test_queue_lists_what_waits_and_what_was_given_up_and_tries_again(filled, agent, run, capsys):
    store, ids = filled
    store.verdict(ids["answered"], "melanoma", "clinician").result(10)
    rows = store.outbox_due(10, fresh_after_seq=0, exclude=())
    store.outbox_dead(rows[2].event_id, "the broker [said] no").result(10)
    assert run("queue", "list", "--json") == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["event_id"] for row in listed] == [row.event_id for row in rows[:2]], "in the order of sending"
    assert listed[0]["bytes"] == len(rows[0].event)
    assert run("queue", "list", "--limit", "1", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert run("queue", "dead") == 0
    said = capsys.readouterr().out
    assert rows[2].event_id in said
    assert "\n    the broker [said] no\n" in said
    assert run("queue", "retry", rows[0].event_id) == 1
    assert "none that was given up" in capsys.readouterr().err
    assert run("queue", "retry", rows[2].event_id) == 0
    assert "1 event waits for the cloud again" in capsys.readouterr().out
    assert store.outbox_stats().waiting == 3
    for row in rows:
        store.outbox_dead(row.event_id, "x").result(10)
    assert run("queue", "retry", "all", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"events": [row.event_id for row in rows], "done": True}
    assert store.outbox_stats().dead == 0
    assert run("queue", "retry", "all") == 1
    assert run("queue", "dead") == 0
    assert capsys.readouterr().out == "none\n"


@pytest.mark.parametrize("words", [("retry",), ("list", "some-id"), ("erase",)])
def test_wrong_words_are_told(run, words):
    with pytest.raises(SystemExit) as stopped:
        run("queue", *words)
    assert stopped.value.code == 2


def test_without_a_database_both_say_so(run, capsys):
    assert run("queue") == 1
    assert run(*nevus("x")) == 1
    assert capsys.readouterr().err.count("no database yet") == 2


def test_who_holds_the_folder_is_asked_for_politely(filled, state_dir):
    assert agent_seems_to_run(state_dir)
    for content in ("", "x", "-5x", "4194304999", "9" * 40):
        (state_dir / "agent.lock").write_text(content)
        assert not agent_seems_to_run(state_dir), content
