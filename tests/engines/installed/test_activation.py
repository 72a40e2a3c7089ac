"""The state machine: only what was committed is ever gone back to, whatever is done in whatever order (F27)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engines.installed.activation import (
    KEPT_FAILURES,
    MAX_TRANSITIONS,
    MAX_TRIALS,
    Activation,
    Installed,
    NotAllowed,
    Stage,
    advance,
    commit,
    give_up,
    roll_back,
    stage,
    try_provisional,
    untry,
)

pytestmark = pytest.mark.fault("F27")

AT = "2026-01-01T00:00:00+00:00"


def installed(number: int) -> Installed:
    return Installed(bundle=f"demo/1.0.{number}", manifest_sha256=f"{number:064x}")


A, B, C = installed(1), installed(2), installed(3)


def provisional(state: Activation, what: Installed) -> Activation:
    state = advance(stage(state, what), what, Stage.VERIFIED, verified_by="a test")
    return advance(advance(state, what, Stage.SELF_TESTED), what, Stage.PROVISIONAL)


def committed(*bundles: Installed) -> Activation:
    state = Activation()
    for bundle in bundles:
        state = commit(provisional(state, bundle), bundle, AT)
    return state


def test_the_straight_way() -> None:
    state = committed(A, B)
    assert (state.active, state.previous.installed if state.previous else None, state.candidate) == (B, A, None)
    assert state.committed is not None
    assert (state.committed.verified_by, state.committed.at) == ("a test", AT)


@pytest.mark.parametrize("to", [Stage.STAGED, Stage.SELF_TESTED, Stage.PROVISIONAL])
def test_no_stage_is_skipped_or_taken_back(to: Stage) -> None:
    with pytest.raises(NotAllowed, match=f"is staged and cannot become {to.value}"):
        advance(stage(Activation(), A), A, to)


def test_what_is_not_provisional_is_not_committed() -> None:
    for state in (Activation(), stage(Activation(), A), committed(A)):
        with pytest.raises(NotAllowed, match="is not the provisional bundle"):
            commit(state, A, AT)
    with pytest.raises(NotAllowed, match="is not the provisional bundle"):
        commit(provisional(committed(A), B), C, AT)


def test_another_activation_takes_the_candidates_place_and_the_first_hears_of_it() -> None:
    state = stage(stage(committed(A), B), C)
    with pytest.raises(NotAllowed, match="another activation has taken its place"):
        advance(state, B, Stage.VERIFIED)
    assert state.active == A


def test_what_was_given_up_is_not_tried_again_by_itself() -> None:
    state = give_up(provisional(committed(A), B), B, "its golden image is wrong", AT)
    assert (state.active, state.candidate) == (A, None)
    with pytest.raises(NotAllowed, match=r"was given up at 2026.* when provisional: its golden image is wrong"):
        stage(state, B)
    assert stage(state, B, again=True).candidate is not None
    assert stage(state, C).candidate is not None


def test_giving_up_what_is_no_candidate_any_more_changes_nothing() -> None:
    state = committed(A, B)
    assert give_up(state, B, "late news", AT) == state
    assert untry(state, B) == state
    assert try_provisional(state, AT) == state


def test_only_the_latest_failures_are_kept() -> None:
    state = committed(A)
    for number in range(10, 10 + KEPT_FAILURES + 3):
        state = give_up(stage(state, installed(number)), installed(number), "bad", AT)
    assert [failure.installed for failure in state.failures] == [installed(n) for n in range(13, 13 + KEPT_FAILURES)]


def test_what_is_active_or_on_trial_already_is_said_so() -> None:
    with pytest.raises(NotAllowed, match="is active already"):
        stage(committed(A), A)
    with pytest.raises(NotAllowed, match="is provisional already"):
        stage(provisional(committed(A), B), B)


def test_an_activation_that_is_interrupted_again_and_again_ends() -> None:
    state = committed(A)
    for _ in range(MAX_TRANSITIONS):
        state = stage(state, B)
    with pytest.raises(NotAllowed, match="begun and interrupted too often"):
        stage(state, B)
    with pytest.raises(NotAllowed, match="begun and interrupted too often"):
        advance(state, B, Stage.VERIFIED)
    assert state.active == A
    fresh = stage(state, B, again=True).candidate
    assert fresh is not None
    assert fresh.transitions == 1


def test_a_bundle_that_ends_the_agent_each_time_is_given_up() -> None:
    state = provisional(committed(A), B)
    for number in range(1, MAX_TRIALS + 1):
        state = try_provisional(state, AT)
        assert state.candidate is not None
        assert state.candidate.trials == number
    state = try_provisional(state, AT)
    assert (state.active, state.candidate) == (A, None)
    assert state.failures[-1].reason == "3 trials of it ended without a result"


def test_a_trial_that_was_ended_in_order_does_not_count() -> None:
    state = provisional(committed(A), B)
    for _ in range(3 * MAX_TRIALS):
        state = untry(try_provisional(state, AT), B)
    assert state.provisional == B
    assert untry(state, B) == state


def test_going_back() -> None:
    with pytest.raises(NotAllowed, match="there is nothing to go back to"):
        roll_back(committed(A))
    assert roll_back(provisional(committed(A), B)) == committed(A)
    back = roll_back(committed(A, B))
    assert (back.active, back.previous.installed if back.previous else None) == (A, B)
    assert roll_back(back) == committed(A, B)


def test_activating_the_active_bundle_again_while_another_is_tried_does_not_lose_the_one_before() -> None:
    state = stage(committed(A, B), C)
    state = commit(provisional(state, B), B, AT)
    assert (state.active, state.previous.installed if state.previous else None) == (B, A)


class AnyOrder(RuleBasedStateMachine):
    """Every step in every order: nothing becomes active, or a target to go back to, that was not committed."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Activation()
        self.proved: set[Installed] = set()

    bundles = st.sampled_from([A, B, C])

    def attempt(self, step: object) -> None:
        try:
            self.state = step(self.state)  # type: ignore[operator]
        except NotAllowed:
            return

    @rule(bundle=bundles, again=st.booleans())
    def stage(self, bundle: Installed, again: bool) -> None:
        self.attempt(lambda state: stage(state, bundle, again=again))

    @rule(bundle=bundles, to=st.sampled_from(Stage))
    def advance(self, bundle: Installed, to: Stage) -> None:
        self.attempt(lambda state: advance(state, bundle, to))

    @rule(bundle=bundles)
    def straight_on(self, bundle: Installed) -> None:
        self.attempt(lambda state: provisional(state, bundle))

    @rule(bundle=bundles)
    def commit(self, bundle: Installed) -> None:
        if self.state.provisional == bundle:
            self.proved.add(bundle)
        self.attempt(lambda state: commit(state, bundle, AT))

    @rule(bundle=bundles)
    def give_up(self, bundle: Installed) -> None:
        self.attempt(lambda state: give_up(state, bundle, "bad", AT))

    @rule()
    def try_it(self) -> None:
        self.attempt(lambda state: try_provisional(state, AT))

    @rule()
    def go_back(self) -> None:
        self.attempt(roll_back)

    @invariant()
    def only_what_was_committed_is_active_or_gone_back_to(self) -> None:
        for one in (self.state.committed, self.state.previous):
            assert one is None or one.installed in self.proved
        if self.state.previous is not None:
            assert self.state.previous.installed != self.state.active

    @invariant()
    def it_can_be_written_and_read(self) -> None:
        assert Activation.model_validate_json(self.state.model_dump_json()) == self.state

    @invariant()
    def the_counts_are_bounded(self) -> None:
        if (candidate := self.state.candidate) is not None:
            assert 1 <= candidate.transitions <= MAX_TRANSITIONS
            assert 0 <= candidate.trials <= MAX_TRIALS


AnyOrder.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyOrder = AnyOrder.TestCase
