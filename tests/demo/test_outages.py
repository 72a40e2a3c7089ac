import pytest

from agent.demo.outages import BEFORE, EVERY, WITHOUT, Outages


def outages(captures, answers):
    """The numbers of the answers at which the cable is pulled and put back."""
    plan, pulled_at, seen = Outages(captures), None, []
    for number in range(1, answers + 1):
        if pulled_at is None and plan.pulls_at(number):
            pulled_at = number
        elif pulled_at is not None and plan.ends_at(number, pulled_at):
            seen.append((pulled_at, number))
            pulled_at = None
    return seen if pulled_at is None else [*seen, (pulled_at, None)]


def test_it_is_pulled_once_after_a_few_answers_and_put_back_within_the_run():
    assert outages(8, 7) == [(BEFORE, BEFORE + WITHOUT)]


@pytest.mark.parametrize(("captures", "seen"), [(1, []), (2, [(1, None)]), (3, [(2, None)])])
def test_a_short_run_ends_with_it_out_or_does_without(captures, seen):
    assert outages(captures, captures) == seen


def test_where_it_goes_on_and_on_it_comes_again():
    assert outages(None, 2 * EVERY + BEFORE) == [
        (BEFORE, BEFORE + WITHOUT),
        (BEFORE + EVERY, BEFORE + EVERY + WITHOUT),
        (BEFORE + 2 * EVERY, None),
    ]
