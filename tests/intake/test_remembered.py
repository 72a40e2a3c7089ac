"""What is remembered of a folder is what a dictionary would remember, in a tenth of its memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from agent.intake.remembered import Remembered

NAMES = some.sampled_from([f"capture-{number}.jpg" for number in range(40)] + ["", "Müller.png", "\udcff.bmp"])
STAMPS = some.sampled_from([b"", b"a" * 40, b"b" * 40, b"c" * 40])
MARKS = some.sampled_from([b"", b"sha256:1", b"sha256:2"])
STEPS = some.lists(
    some.one_of(
        some.tuples(some.just("put"), NAMES, STAMPS, MARKS),
        some.tuples(some.just("keep"), some.sets(NAMES)),
        some.tuples(some.just("pack")),
    ),
    max_size=60,
)


@pytest.mark.fault("F03")
@settings(max_examples=200, deadline=None)
@given(steps=STEPS, asked=some.lists(some.tuples(NAMES, STAMPS, MARKS), min_size=1, max_size=20))
def test_it_remembers_what_a_dictionary_would(steps, asked):
    model: dict[str, tuple[bytes, bytes]] = {}
    remembered = Remembered()
    for step in steps:
        if step[0] == "put":
            remembered.put(*step[1:])
            model[step[1]] = step[2:]
        elif step[0] == "keep":
            remembered.keep_only(step[1])
            model = {name: known for name, known in model.items() if name in step[1]}
        else:
            remembered._pack()
    assert len(remembered) == len(model)
    for name, stamp, mark in asked:
        assert (name in remembered) == (name in model)
        assert remembered.has(name, stamp) == (name in model and model[name][0] == stamp)
        assert remembered.has(name, stamp, mark) == (model.get(name) == (stamp, mark))


def test_many_files_take_little_memory():
    tracemalloc.start()
    try:
        remembered = Remembered()
        for number in range(50_000):
            remembered.put(f"IMG_{number:09d}_dermoscope.jpg", number.to_bytes(40, "big"), b"sha256:%d" % number)
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 50_000 * 60
    assert peak < 50_000 * 120
    assert len(remembered) == 50_000
    assert all(
        remembered.has(f"IMG_{number:09d}_dermoscope.jpg", number.to_bytes(40, "big"), b"sha256:%d" % number)
        for number in range(0, 50_000, 97)
    )
    assert not remembered.has("IMG_000000001_dermoscope.jpg", (2).to_bytes(40, "big"))


def test_what_is_remembered_anew_is_what_counts():
    remembered = Remembered()
    remembered.put("a", b"1", b"x")
    remembered._pack()
    remembered.put("a", b"2")
    assert remembered.has("a", b"2")
    assert not remembered.has("a", b"1")
    assert not remembered.has("a", b"2", b"x")
    remembered._pack()
    assert remembered.has("a", b"2", b"")
    assert len(remembered) == 1
