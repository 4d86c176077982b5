from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiebot.errors import IllegalTransition
from kiebot.generation.machine import (
    AnswerLost,
    Begun,
    Broke,
    Cancelled,
    Capture,
    Event,
    Finished,
    NotCreated,
    StayedAway,
    TaskCreated,
    Tell,
    Void,
    step,
)
from kiebot.generation.model import State

EVENTS: list[Event] = [
    Begun(),
    TaskCreated("t"),
    NotCreated(),
    AnswerLost(True),
    AnswerLost(False),
    Finished(("u",)),
    Broke("server"),
    Broke("server", again=True),
    StayedAway(),
    Cancelled(),
]


def run(events: list[Event]) -> tuple[State, list[Any]]:
    state = State.ACCEPTED
    effects: list[Any] = []
    for event in events:
        try:
            state, more = step(state, event)
        except IllegalTransition:
            continue
        effects += more
    return state, effects


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_whatever_comes_in_whatever_order_money_ends_at_most_once(events: list[Event]) -> None:
    state, effects = run(events)
    endings = [effect for effect in effects if isinstance(effect, Capture | Void)]
    assert len(endings) == (1 if state.is_final else 0)
    if state is State.SUCCEEDED:
        assert isinstance(endings[0], Capture)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_every_ending_tells_the_user_and_nothing_else_does_twice(events: list[Event]) -> None:
    state, effects = run(events)
    told = [effect.what for effect in effects if isinstance(effect, Tell)]
    assert told.count("result") == (1 if state is State.SUCCEEDED else 0)
    assert told.count("failed") == (1 if state is State.FAILED else 0)


@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.sampled_from(EVENTS))
def test_an_ended_generation_never_changes_its_end(events: list[Event], late: Event) -> None:
    state, _ = run(events)
    if state.is_final:
        after, effects = step(state, late)
        assert after is state
        assert not any(isinstance(effect, Capture | Void) for effect in effects)


def test_a_lost_answer_never_leads_back_to_accepted() -> None:
    for event in EVENTS:
        state, _ = step(State.SUBMITTING, AnswerLost(True))
        try:
            after, _ = step(state, event)
        except IllegalTransition:
            continue
        assert after is not State.ACCEPTED
        assert after is not State.SUBMITTING


def test_an_impossible_event_is_a_bug_and_not_ignored() -> None:
    with pytest.raises(IllegalTransition):
        step(State.RUNNING, NotCreated())


@pytest.mark.parametrize("news", [Broke("server", again=True), Broke("capacity", again=True), NotCreated()])
def test_what_is_heard_twice_while_the_next_try_waits_ends_nothing(news: Event) -> None:
    """By a worker that was frozen, or because nobody heard that it was written."""
    assert step(State.ACCEPTED, news) == (State.ACCEPTED, ())
