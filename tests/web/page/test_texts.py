"""The catalogue: whole in both languages, known to the code, and within the intended use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agent.web
from agent.answer import texts
from agent.answer.texts import CLASS_NAMES
from engines.classes import CLASSES

PAGE = Path(agent.web.__file__).parent / "page"
CATALOGUE: dict[str, Any] = json.loads((PAGE / "texts.json").read_text("utf-8"))
CODE = {path.name: path.read_text("utf-8") for path in PAGE.glob("*.js")}
SKELETON = (PAGE / "index.html").read_text("utf-8")
LANGUAGES = ("en", "de")


def _forms(entry: str | dict[str, str]) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def _said(language: str) -> Iterator[str]:
    for entry in CATALOGUE["texts"].values():
        yield from _forms(entry[language])
    for entry in (*CATALOGUE["classes"].values(), *CATALOGUE["sentences"]):
        yield entry[language]


def test_there_is_every_text_in_every_language_with_the_same_blanks() -> None:
    assert tuple(CATALOGUE["languages"]) == LANGUAGES
    entries = [*CATALOGUE["texts"].values(), *CATALOGUE["classes"].values(), *CATALOGUE["sentences"]]
    for entry in entries:
        assert set(entry) == set(LANGUAGES), entry
        # A singular may leave its count out; nothing else may be missing, or left over.
        blanks = [{frozenset(re.findall(r"\{(\w+)\}", form)) for form in _forms(entry[one])} for one in LANGUAGES]
        assert blanks[0] == blanks[1], entry
        assert all(form.strip() for one in LANGUAGES for form in _forms(entry[one])), entry
        assert [isinstance(entry[one], str) for one in LANGUAGES] in ([True, True], [False, False]), entry


def test_every_text_that_the_code_asks_for_is_there_and_none_lies_unused() -> None:
    asked = {key for code in CODE.values() for key in re.findall(r'(?<![\w.$])t\("([^"]+)"', code)}
    asked |= set(re.findall(r'data-(?:text|label)="([^"]+)"', SKELETON))
    assert asked == set(CATALOGUE["texts"])


def test_the_classes_are_the_models_and_called_as_in_the_answer() -> None:
    assert tuple(CATALOGUE["classes"]) == CLASSES
    assert {name: entry["en"] for name, entry in CATALOGUE["classes"].items()} == CLASS_NAMES


def test_no_text_says_benign() -> None:
    assert not [text for language in LANGUAGES for text in _said(language) if re.search(r"(?i)benign|gutartig", text)]


@pytest.mark.parametrize(
    ("language", "word", "beside"),
    [("en", "diagnos", r"suggestion|not a diagnosis"), ("de", "diagnos", r"vorschlag|verdacht")],
)
def test_a_diagnosis_is_never_spoken_of_but_as_a_suggestion(language: str, word: str, beside: str) -> None:
    spoken = [text.lower() for text in _said(language) if word in text.lower()]
    assert spoken, "the line that is always visible speaks of it"
    assert not [text for text in spoken if not re.search(beside, text)]


def test_what_is_written_outside_the_catalogue_keeps_to_the_same_words() -> None:
    markup = re.sub(r"<[^>]+>", " ", SKELETON)
    assert not re.search(r"(?i)benign|gutartig", markup)
    assert markup.count("diagnosis") == markup.count("not a diagnosis") == 1
    for name, code in CODE.items():
        # Names of fields and classes are the contract's; what is shown comes by t("…").
        assert not re.search(r'(?i)"[^"]*\b(benign|gutartig)\b[^"]*"', code), name


def test_every_constant_sentence_of_an_answer_is_in_the_catalogue() -> None:
    known = {entry["en"] for entry in CATALOGUE["sentences"]}
    constants = {name: value for name, value in vars(texts).items() if name.isupper() and isinstance(value, str)}
    assert "REFER_URGENTLY" in constants
    assert not {name: value for name, value in constants.items() if value not in known}


def test_the_line_that_is_always_visible_is_the_answers_own() -> None:
    assert CATALOGUE["texts"]["adjunct"]["en"] == texts.ADJUNCT
    assert texts.ADJUNCT in SKELETON


def test_the_code_never_builds_markup_out_of_text() -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\b"
    )
    assert not [name for name, code in CODE.items() if re.search(forbidden, code)]
    assert not re.search(r"(?i)\son\w+=|\sstyle=|<style|javascript:|<script(?![^>]* src=)", SKELETON)


def test_every_module_is_fetched_at_once_and_not_one_after_the_other() -> None:
    preloaded = re.findall(r'<link rel="modulepreload" href="/page/([^"]+)">', SKELETON)
    assert sorted([*preloaded, "main.js"]) == sorted(CODE)
    styles = re.findall(r'<link rel="stylesheet" href="/page/([^"]+)">', SKELETON)
    assert sorted(styles) == sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*.css"))


def test_nothing_is_asked_of_another_machine() -> None:
    for path in PAGE.rglob("*"):
        if path.suffix in {".js", ".css", ".html"}:
            assert not re.search(r"(?<!xmlns=\")https?://(?!www\.w3\.org/2000/svg)|@import", path.read_text("utf-8")), (
                path
            )
