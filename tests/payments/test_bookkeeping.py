"""What the holder compares once a day, and what it tells of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from kiebot.bookkeeping import AGAIN_S, EVERY_S, STEADY_S, Bookkeeper
from kiebot.bot.receipts import Receipts
from kiebot.clock import ManualClock, SystemClock
from kiebot.errors import Transient
from kiebot.lease.chronicle import LeaseCounts, Standing
from kiebot.observe.metrics import METRICS
from kiebot.payments.model import StatementLine
from kiebot.payments.providers import Providers
from tests.payments.conftest import Shop
from tests.payments.test_other_providers import Cards
from tests.payments.test_reconcile import lost


def gauge(name: str) -> float | None:
    return METRICS.registry.get_sample_value(f"kiebot_{name}")


@dataclass
class AwayCards(Cards):
    """Another provider, whose books cannot be read for a while."""

    is_away: bool = True

    async def statement(self) -> AsyncIterator[StatementLine]:
        if self.is_away:
            raise Transient("the books are closed")
        for line in self.lines:
            yield line


@dataclass
class Replica:
    standing: Standing | None


def replica(held_s: float, *, is_holder: bool = True) -> Replica:
    return Replica(Standing("poller", "r1", is_holder, "token", held_s, 8.0, True, LeaseCounts()))


async def test_a_payment_that_was_never_seen_is_counted_and_left_to_the_operator(shop: Shop) -> None:
    anna = shop.sim.user()
    await shop.sells(anna)
    books = Bookkeeper(shop.database, Providers(shop.stars), Receipts(), SystemClock(), fresh_s=0.0)
    await books.compare()
    assert (gauge("payments_uncredited"), gauge("payment_differences")) == (0, 0)
    await lost(shop, anna)
    await books.compare()
    assert (gauge("payments_uncredited"), gauge("payment_differences")) == (1, 1)
    assert await shop.column("SELECT count(*) FROM payments") == [1]


async def test_what_another_program_sold_with_the_same_bot_before_anybody_came_is_no_difference(shop: Shop) -> None:
    """Else the alert would stand for ever, and hide the next one that is real."""
    anna = shop.sim.user()
    await lost(shop, anna)
    await shop.execute("UPDATE users SET created_at = now() + interval '2 hours'")
    books = Bookkeeper(shop.database, Providers(shop.stars), Receipts(), SystemClock(), fresh_s=0.0)
    await books.compare()
    assert (gauge("payments_uncredited"), gauge("payment_differences")) == (0, 0)


async def test_a_model_that_costs_more_than_it_brings_is_counted(shop: Shop) -> None:
    anna = shop.sim.user()
    await shop.sells(anna)
    await shop.spends(anna, 10)
    await shop.spends(anna, 20)
    await shop.execute("UPDATE generations SET attempt_id = id, model_id = 'm' || price_millicredits")
    await shop.execute(
        "INSERT INTO attempts (id, generation_id, no, state, consumed_millicredits)"
        " SELECT id, id, 1, 'created', 15000 FROM generations"
    )
    await Bookkeeper(shop.database, Providers(), Receipts(), SystemClock()).compare()
    assert (gauge("models_at_a_loss"), gauge("margin_credits")) == (1, 0)
    await shop.books_are_right()


async def test_a_steady_holder_compares_once_a_day_and_nobody_else(shop: Shop) -> None:
    clock = ManualClock()
    books = Bookkeeper(shop.database, Providers(), Receipts(), clock)
    for other in (replica(STEADY_S - 1), replica(9999.0, is_holder=False), Replica(None)):
        assert not await books.look(other)
    assert await books.look(replica(STEADY_S))
    assert not await books.look(replica(STEADY_S))
    await clock.advance(EVERY_S)
    assert await books.look(replica(STEADY_S))


async def test_an_outage_is_passed_over_and_tried_again_sooner(shop: Shop) -> None:
    clock, cards = ManualClock(), AwayCards()
    books = Bookkeeper(shop.database, Providers(cards), Receipts(), clock)
    assert not await books.look(replica(STEADY_S))
    cards.is_away = False
    assert not await books.look(replica(STEADY_S))
    await clock.advance(AGAIN_S)
    assert await books.look(replica(STEADY_S))
