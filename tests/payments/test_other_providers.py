"""Another way to pay beside Stars: its refunds are asked of itself, its books are read by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action
from kiebot.bot.receipts import Receipts
from kiebot.clock import SystemClock
from kiebot.payments.credit import credit
from kiebot.payments.model import Payment, RefundState, StatementLine
from kiebot.payments.providers import Providers
from kiebot.payments.reconcile import Reconciliation
from kiebot.payments.refunds import Refunds
from tests.payments.conftest import Shop

ANNA, PRICE_CENTS = 4242, 500
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@dataclass
class Cards:
    """Takes cards: a credit for five cents. It remembers what it took and gave back."""

    name: str = "cards"
    lines: list[StatementLine] = field(default_factory=list)
    paid_back: list[tuple[int, str]] = field(default_factory=list)

    async def pay_back(self, user_id: int, charge_id: str) -> None:
        self.paid_back.append((user_id, charge_id))

    async def statement(self) -> AsyncIterator[StatementLine]:
        for line in self.lines:
            yield line

    def payment_of(self, line: StatementLine, language: str) -> Payment:
        credits = line.amount * 1000 // 5
        return Payment(self.name, line.charge_id, line.user_id, line.amount, "EUR", credits, language)


def a_payment(charge_id: str = "ch_1") -> StatementLine:
    return StatementLine(charge_id, ANNA, PRICE_CENTS, "", LONG_AGO)


@pytest.fixture
async def cards(shop: Shop) -> Cards:
    """One payment, booked."""
    made = Cards(lines=[a_payment()])
    async with shop.database.transaction() as tx:
        await tx.users.seen(ANNA, "Anna", "en")
        await tx.ledger.open_wallet(ANNA)
        await credit(tx, made.payment_of(a_payment(), "en"), Receipts())
    return made


async def test_a_refund_is_asked_of_whoever_took_the_money(shop: Shop, cards: Cards) -> None:
    refunds = Refunds(shop.database, Providers(shop.stars, cards), Receipts(), SystemClock())
    done = await refunds.refund("ch_1", "operator", "asked for it", provider="cards")
    assert (done.state, done.provider, cards.paid_back) == (RefundState.DONE, "cards", [(ANNA, "ch_1")])
    assert shop.sim.journal.calls("refundStarPayment") == []
    await shop.books_are_right()


async def test_a_refund_of_an_admin_goes_to_the_provider_of_its_payment(shop: Shop, cards: Cards) -> None:
    act = Act(Action.REFUND, "ch_1", {"provider": "cards", "user": ANNA, "reason": "sorry"})
    async with shop.database.transaction() as tx:
        await perform(tx, act, Doer("admin:900", "k1"))
        refund = await tx.payments.standing_refund("cards", "ch_1")
    assert refund is not None
    await Refunds(shop.database, Providers(shop.stars, cards), Receipts(), SystemClock()).advance(refund.id)
    assert cards.paid_back == [(ANNA, "ch_1")]


async def test_a_replica_that_does_not_know_a_provider_leaves_its_refund_to_others(shop: Shop, cards: Cards) -> None:
    open_refund = await Refunds(shop.database, Providers(shop.stars), Receipts(), SystemClock()).refund(
        "ch_1", "operator", "asked for it", provider="cards"
    )
    assert (open_refund.state, "no payment provider cards" in (open_refund.last_error or "")) == (
        RefundState.OPEN,
        True,
    )
    assert shop.sim.journal.calls("refundStarPayment") == []
    both = Refunds(shop.database, Providers(shop.stars, cards), Receipts(), SystemClock())
    await both.advance(open_refund.id, is_urgent=True)
    assert cards.paid_back == [(ANNA, "ch_1")]
    await shop.books_are_right()


async def test_what_its_books_have_and_ours_lack_is_booked_by_its_own_price(shop: Shop, cards: Cards) -> None:
    cards.lines.append(a_payment("ch_2"))
    await shop.execute("UPDATE users SET created_at = now() - interval '10 years'")
    report = await Reconciliation(shop.database, cards, Receipts(), SystemClock()).run(apply=True)
    assert (report.payments, len(report.differences), report.is_clean) == (2, 1, True)
    async with shop.database.transaction() as tx:
        booked = await tx.payments.get("cards", "ch_2")
        balance = await tx.ledger.balance(ANNA)
    assert booked is not None
    assert (booked.currency, booked.credits, balance.available) == ("EUR", 100_000, 200_000)
    await shop.books_are_right()
