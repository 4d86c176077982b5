"""What is told of the terms of the lease: enough to say why it changed hands, and never at the leader's expense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from kiebot.clock import ManualClock
from kiebot.lease.chronicle import Transition
from kiebot.status import last_change
from kiebot.storage.engine import make_engine
from kiebot.storage.terms import KEPT, TermTold
from kiebot.storage.transaction import Database
from kiebot.terms import BEGINNING_AFTER_S, END_AFTER_S, MOST_UNTOLD, RETRY_S, TermTeller
from tests.storage.conftest import RememberingQueue

BOT = 42
_AGO = text("SELECT extract(epoch FROM now() - CAST(:at AS timestamptz))::float8")
NOBODY_THERE = "postgresql://kiebot:pw@127.0.0.1:1/kiebot"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def teller(database: Database, clock: ManualClock, replica: str) -> TermTeller:
    return TermTeller(database, clock, BOT, replica)


@pytest.fixture
async def one(database: Database, clock: ManualClock) -> AsyncIterator[TermTeller]:
    """It runs."""
    made = teller(database, clock, "one")
    runs = asyncio.create_task(made.run())
    yield made
    runs.cancel()
    await asyncio.gather(runs, return_exceptions=True)


async def settles(one: TermTeller, clock: ManualClock) -> None:
    settling = asyncio.create_task(one.settle())
    await clock.advance(END_AFTER_S)
    await settling


async def newest(database: Database, most: int = 2) -> list[TermTold]:
    async with database.single() as tx:
        return await tx.terms.newest(BOT, most)


async def until_there_are(database: Database, count: int) -> list[TermTold]:
    async with asyncio.timeout(10):
        while len(told := await newest(database)) < count:
            await asyncio.sleep(0.01)
    return told


async def test_a_beginning_is_told_once_the_first_poll_is_under_way(
    database: Database, clock: ManualClock, one: TermTeller
) -> None:
    one.note(Transition("acquired", "t1", 0.1))
    await clock.advance(BEGINNING_AFTER_S - 0.01)
    await asyncio.sleep(0.05)
    assert await newest(database) == []
    await clock.advance(0.02)
    (told,) = await until_there_are(database, 1)
    assert (told.token, told.replica, told.ended_at) == ("t1", "one", None)


async def test_an_end_is_told_soon_also_of_a_term_whose_beginning_was_not(
    database: Database, clock: ManualClock, one: TermTeller
) -> None:
    one.note(Transition("yielded", "t1", 30.0, "telegram out of reach for 5.0 s", "one"))
    await clock.advance(END_AFTER_S)
    (told,) = await until_there_are(database, 1)
    assert told.ended_at is not None
    assert (told.ended_at - told.began_at).total_seconds() == pytest.approx(30.0)
    assert told.reason == "yielded: telegram out of reach for 5.0 s"


async def test_what_happened_while_postgres_was_away_is_told_later_with_its_own_time(
    database: Database, clock: ManualClock
) -> None:
    away = make_engine(NOBODY_THERE, pool_size=1)
    one = teller(Database(away, RememberingQueue()), clock, "one")
    runs = asyncio.create_task(one.run())
    one.note(Transition("deadline", "t1", 5.0, "", "one"))
    await clock.advance(END_AFTER_S)
    await asyncio.sleep(0.1)
    await clock.advance(100.0)
    with capture_logs() as logged:
        for _ in range(10):
            await clock.advance(RETRY_S)
            await asyncio.sleep(0.02)
        one._database = database  # it is back
        async with asyncio.timeout(10):
            while not (told := await newest(database)):
                await clock.advance(RETRY_S)
                await asyncio.sleep(0.02)
    assert logged == [], "said once, before"
    runs.cancel()
    await asyncio.gather(runs, return_exceptions=True)
    await away.dispose()
    async with database.single() as tx:
        ago_s = await tx.connection.scalar(_AGO, {"at": told[0].ended_at})
    assert ago_s == pytest.approx(clock.monotonic(), abs=RETRY_S + 1)


async def test_a_replica_that_leaves_waits_for_a_silent_postgres_for_a_moment_only(clock: ManualClock) -> None:
    away = make_engine(NOBODY_THERE, pool_size=1)
    one = teller(Database(away, RememberingQueue()), clock, "one")
    for number in range(MOST_UNTOLD + 10):
        one.note(Transition("stopped", f"t{number}", 1.0, "", "one"))
    await settles(one, clock)
    await away.dispose()


async def test_telling_twice_changes_nothing(database: Database, clock: ManualClock) -> None:
    for _ in range(2):
        one = teller(database, clock, "one")
        one.note(Transition("seized", "t1", 0.1, "disconnected", "zero"))
        one.note(Transition("stopped", "t1", 3.0, "", "one"))
        await settles(one, clock)
    (told,) = await newest(database)
    assert (told.sign, told.previous, told.reason) == ("disconnected", "zero", "stopped")


async def test_only_the_newest_hundred_are_kept(database: Database, clock: ManualClock) -> None:
    one = teller(database, clock, "one")
    for number in range(KEPT + 3):
        one.note(Transition("acquired", f"t{number}", 0.1))
        await settles(one, clock)
    told = await newest(database, most=2 * KEPT)
    assert [each.token for each in told] == [f"t{number}" for number in reversed(range(3, KEPT + 3))]


BEGIN = Transition("acquired", "t2", 0.1, "", "one")
SEIZE = Transition("seized", "t2", 0.1, "not_renewed", "one")


@pytest.mark.parametrize(
    ("of_one", "of_two", "said"),
    [
        ([], [], None),
        ([Transition("acquired", "t1", 0.1)], [], ("one", "acquired", "", "")),
        ([Transition("stopped", "t1", 9.0, "", "one")], [], ("one", "ended", "one", "stopped")),
        ([Transition("stopped", "t1", 9.0, "", "one")], [BEGIN], ("two", "acquired", "one", "stopped")),
        (
            [Transition("work_failed", "t1", 9.0, "ValueError", "one")],
            [BEGIN],
            ("two", "acquired", "one", "work_failed: ValueError"),
        ),
        ([Transition("acquired", "t1", 0.1)], [BEGIN], ("two", "acquired", "one", "silent: it never told an end")),
        ([Transition("acquired", "t1", 0.1)], [SEIZE], ("two", "seized", "one", "died: not_renewed")),
        ([Transition("taken", "t0", 0.1, "", "none")], [BEGIN], ("two", "acquired", "one", "taken")),
    ],
)
async def test_the_last_change_of_hands_is_told_with_its_reason(
    database: Database,
    clock: ManualClock,
    of_one: list[Transition],
    of_two: list[Transition],
    said: tuple[str, str, str, str] | None,
) -> None:
    for name, told in (("one", of_one), ("two", of_two)):
        made = teller(database, clock, name)
        for transition in told:
            made.note(transition)
        await settles(made, clock)
    change = last_change(await newest(database))
    assert said == (None if change is None else (change.by, change.kind, change.previous, change.why))


async def test_the_reason_of_another_than_the_previous_holder_is_not_taken_for_its_own(
    database: Database, clock: ManualClock
) -> None:
    zero, two = teller(database, clock, "zero"), teller(database, clock, "two")
    zero.note(Transition("stopped", "t0", 1.0, "", "zero"))
    await settles(zero, clock)
    two.note(BEGIN)  # of one's term, between them, nothing was ever heard
    await settles(two, clock)
    change = last_change(await newest(database))
    assert change is not None
    assert (change.previous, change.why) == ("one", "silent: it never told an end")
