"""Which safeguards the intake needs, found by visiting every state of a small model of it.

Two pollers that may both believe to lead at any moment, and crash at any moment; a Telegram that deletes below the
offset it is asked for; a queue that may be emptied; workers that take from it. Each row switches safeguards on or off.
The rows that fail are part of the argument: they show that the search would find the harm, and that neither a lease nor
a fence nor Redis can stand in for storing first and confirming second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

UPDATES = 2
POLLERS = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """What protects the intake, and what it has to bear."""

    fence: bool = False
    redis_dedupe: bool = False
    unique_effect: bool = False
    durable_inbox: bool = False
    redis_may_forget: bool = False
    jobs_may_repeat: bool = False  # a worker may die after the effect and before it says so
    confirm_before_store: bool = False


@dataclass(frozen=True, slots=True)
class PollerState:
    polls: bool = False
    offset: int = 0
    batch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    pollers: tuple[PollerState, ...] = (PollerState(),) * POLLERS
    fence: int = -1
    confirmed: int = 0  # Telegram has deleted every update below
    inbox: frozenset[int] = frozenset()
    queue: tuple[int, ...] = ()
    deduped: frozenset[int] = frozenset()
    effects: tuple[int, ...] = (0,) * UPDATES

    def suffers(self, harm: str) -> bool:
        if harm == "doubled":
            return max(self.effects) > 1
        in_hand = {update for poller in self.pollers for update in poller.batch}
        kept = in_hand | self.inbox | set(self.queue)
        return any(self.effects[u] == 0 and u not in kept for u in range(self.confirmed))

    def with_poller(self, number: int, state: PollerState) -> World:
        return replace(self, pollers=(*self.pollers[:number], state, *self.pollers[number + 1 :]))


def _steps(world: World, rules: Rules) -> Iterator[World]:
    for number, poller in enumerate(world.pollers):
        yield replace(world.with_poller(number, PollerState(polls=True)), fence=number)  # elected, or so it believes
        yield world.with_poller(number, PollerState())  # crashed
        if poller.batch:
            yield _store(world, number, rules)
        elif poller.polls:
            yield _poll(world, number, rules)
    yield from _work(world, rules)
    if rules.redis_may_forget:
        yield replace(world, queue=(), deduped=frozenset())
    if rules.durable_inbox:  # the sweeper
        waiting = [update for update in sorted(world.inbox) if not world.effects[update] and update not in world.queue]
        yield replace(world, queue=(*world.queue, *waiting))


def _poll(world: World, number: int, rules: Rules) -> World:
    poller = world.pollers[number]
    confirmed = max(world.confirmed, poller.offset)
    batch = tuple(range(confirmed, UPDATES))[:1]  # one at a time: more interleavings, fewer updates needed
    if rules.confirm_before_store and batch:
        confirmed = batch[-1] + 1
    return replace(world, confirmed=confirmed).with_poller(number, replace(poller, batch=batch))


def _store(world: World, number: int, rules: Rules) -> World:
    poller = world.pollers[number]
    if rules.fence and world.fence != number:
        return world.with_poller(number, PollerState())
    queued = [update for update in poller.batch if not (rules.redis_dedupe and update in world.deduped)]
    if rules.durable_inbox:
        queued = [update for update in queued if update not in world.inbox]
        world = replace(world, inbox=world.inbox | set(poller.batch))
    if rules.redis_dedupe:
        world = replace(world, deduped=world.deduped | set(queued))
    stored = PollerState(polls=True, offset=poller.batch[-1] + 1)
    return replace(world, queue=(*world.queue, *queued)).with_poller(number, stored)


def _work(world: World, rules: Rules) -> Iterator[World]:
    for place, update in enumerate(world.queue):
        rest = replace(world, queue=world.queue[:place] + world.queue[place + 1 :])
        if rules.unique_effect and world.effects[update]:
            yield rest
            continue
        effects = tuple(count + (other == update) for other, count in enumerate(world.effects))
        yield replace(rest, effects=effects)
        if rules.jobs_may_repeat:
            yield replace(world, effects=effects)


def search(rules: Rules, *harms: str, most: int = 200_000) -> tuple[int | None, int]:
    """The fewest steps to one of these harms (None: it never comes to that), and how many states were visited."""
    start = World()
    steps = {start: 0}
    frontier = deque([start])
    while frontier:
        world = frontier.popleft()
        for following in _steps(world, rules):
            if following in steps or len(following.queue) > UPDATES + 1:
                continue
            steps[following] = steps[world] + 1
            if any(following.suffers(harm) for harm in harms):
                return steps[following], len(steps)
            assert len(steps) < most, "the model grew beyond what can be searched"
            frontier.append(following)
    return None, len(steps)


STORED_FIRST = Rules(unique_effect=True, durable_inbox=True, redis_may_forget=True)


@pytest.mark.parametrize(
    ("rules", "harm", "steps"),
    [
        (Rules(), "doubled", 8),
        (Rules(fence=True), "doubled", 8),  # the next leader reads again what was queued and not confirmed
        (Rules(fence=True, redis_dedupe=True, unique_effect=True, confirm_before_store=True), "lost", 3),
        (Rules(fence=True, redis_dedupe=True, redis_may_forget=True), "lost", 5),
        (Rules(fence=True, redis_dedupe=True, redis_may_forget=True), "doubled", 9),
        (Rules(fence=True, redis_dedupe=True, unique_effect=True, redis_may_forget=True), "lost", 5),
        (Rules(fence=True, unique_effect=True, durable_inbox=True, confirm_before_store=True), "lost", 3),
        (Rules(redis_dedupe=True, jobs_may_repeat=True), "doubled", 5),
        (Rules(durable_inbox=True, jobs_may_repeat=True), "doubled", 5),
    ],
)
def test_the_search_finds_what_weaker_rules_allow(rules: Rules, harm: str, steps: int) -> None:
    assert search(rules, harm)[0] == steps


def test_dedupe_in_redis_is_enough_only_while_redis_forgets_nothing_and_no_job_repeats() -> None:
    assert search(Rules(redis_dedupe=True), "lost", "doubled")[0] is None


@pytest.mark.parametrize(
    "rules",
    [
        STORED_FIRST,
        replace(STORED_FIRST, fence=True),
        replace(STORED_FIRST, jobs_may_repeat=True),
        replace(STORED_FIRST, fence=True, redis_dedupe=True, jobs_may_repeat=True),
    ],
)
def test_storing_first_with_unique_effects_survives_everything_with_or_without_a_fence(rules: Rules) -> None:
    steps, visited = search(rules, "lost", "doubled")
    assert steps is None
    assert visited > 500  # the whole space, not a corner of it
