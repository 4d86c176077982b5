"""The books under many hands at once, and what `verify` finds when somebody was at them."""

from __future__ import annotations

import asyncio
import random

import pytest

from kiebot.bot.receipts import Receipts
from kiebot.payments.credit import credit, stars_payment
from kiebot.payments.refunds import Refunds, book_refund_made_elsewhere
from kiebot.simulators.users import SimUser
from kiebot.storage.verify import verify
from tests.payments.conftest import TERMS, Shop

CHARGES = 6


async def test_payments_refunds_and_their_news_in_any_order_and_number_leave_the_books_right(
    shop: Shop, anna: SimUser
) -> None:
    rng = random.Random(7)
    refunds: Refunds = shop.refunds

    async def pays(charge_id: str) -> None:
        payment = stars_payment(
            TERMS, charge_id=charge_id, user_id=anna.user_id, amount=20, currency="XTR", payload="", language="en"
        )
        async with shop.database.transaction() as tx:
            await credit(tx, payment, Receipts())

    async def goes_back(charge_id: str) -> None:
        async with shop.database.transaction() as tx:
            await book_refund_made_elsewhere(tx, charge_id, Receipts())

    async def is_refunded(charge_id: str) -> None:
        await refunds.refund(charge_id, "operator", "test")

    acts = [
        act(f"c{n}") for n in range(CHARGES) for act in (pays, pays, goes_back, is_refunded, is_refunded, goes_back)
    ]
    rng.shuffle(acts)
    ends = await asyncio.gather(*acts, return_exceptions=True)
    assert {str(end) for end in ends if end is not None} <= {"no_payment"}  # asked for before it was paid
    await asyncio.gather(*(pays(f"c{n}") for n in range(CHARGES)))
    await asyncio.gather(*(goes_back(f"c{n}") for n in range(CHARGES)))
    await shop.books_are_right()
    assert await shop.available(anna) == 0
    assert [await shop.account(key) for key in ("provider:stars", "refunds")] == [0, 0]
    assert await shop.column("SELECT count(*) FROM refunds WHERE state = 'done'") == [CHARGES]


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (
            "INSERT INTO payments (provider, charge_id, user_id, amount, currency, credits, language)"
            " VALUES ('stars', 'x', 501, 1, 'XTR', 1000, 'en')",
            "a payment has one posting",
        ),
        (
            "INSERT INTO postings (key, kind, actor) VALUES ('topup:stars:x', 'top_up', 'x')",
            "a payment has one posting",
        ),
        ("INSERT INTO postings (key, kind, actor) VALUES ('refund:99', 'refund', 'x')", "a refund has its postings"),
        ("UPDATE refunds SET taken = taken - 1000", "a refund has its postings"),
        ("UPDATE refunds SET state = 'refused'", "a refund has its postings"),
        ("UPDATE refunds SET amount = amount + 1", "a payment goes back at most once"),
        ("UPDATE accounts SET available = available - 5 WHERE key = 'receivable'", "what is owed"),
        ("UPDATE accounts SET available = available + 5 WHERE key = 'provider:stars'", "what is owed"),
    ],
)
async def test_verify_finds_what_was_done_to_the_books(shop: Shop, anna: SimUser, damage: str, invariant: str) -> None:
    payment = await shop.sells(anna)
    await shop.spends(anna, 70)
    await shop.refunds.refund(str(payment.charge_id), "operator", "test")
    await shop.books_are_right()
    await shop.execute(damage)
    assert any(breach.invariant.startswith(invariant) for breach in await verify(shop.engine))
