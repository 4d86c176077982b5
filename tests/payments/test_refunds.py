"""Giving Stars back: twice is once, cut off anywhere, with the credits where they belong."""

from __future__ import annotations

import asyncio

import pytest

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action
from kiebot.errors import Refused
from kiebot.generation.model import Order, Quoted
from kiebot.ids import new_id
from kiebot.payments.model import RefundState
from kiebot.payments.refunds import request_refund
from kiebot.simulators.users import Payment, SimUser
from kiebot.storage.sweeps import SweepRepository
from kiebot.wakeups import Repay
from tests.payments.conftest import Shop


def charge(payment: Payment) -> str:
    assert payment.charge_id is not None
    return payment.charge_id


async def test_a_refund_gives_the_stars_back_and_takes_the_credits(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    refund = await shop.refunds.refund(charge(payment), "operator", "asked for it")
    await shop.works_off()
    assert refund.state is RefundState.DONE
    assert shop.sim.bot.till.balance_nano == 0
    assert await shop.available(anna) == 0
    assert [await shop.account(key) for key in ("provider:stars", "receivable", "refunds")] == [0, 0, 0]
    told = [m.text for m in anna.messages if m.text and "went back to you" in m.text]
    assert told == ["⭐ 200 went back to you. Taken out of your credits: 100 credits. You have 0 credits."]
    await shop.books_are_right()


async def test_a_refund_asked_for_twice_has_one_effect(shop: Shop, anna: SimUser) -> None:
    payment, kept = await shop.sells(anna), await shop.sells(anna, 50)
    both = await asyncio.gather(*(shop.refunds.refund(charge(payment), f"op{n}", "twice") for n in range(2)))
    again = await shop.refunds.refund(charge(payment), "op", "thrice")
    await shop.works_off()
    assert {refund.id for refund in (*both, again)} == {both[0].id}
    assert again.state is RefundState.DONE
    assert await shop.available(anna) == 50
    assert not shop.sim.bot.till.charges[charge(kept)].is_refunded
    assert sum("went back" in (m.text or "") for m in anna.messages) == 1
    await shop.books_are_right()


async def test_of_two_admins_who_give_a_payment_back_at_once_one_did_it(shop: Shop, anna: SimUser) -> None:
    act = Act(Action.REFUND, charge(await shop.sells(anna)), {"reason": "sorry"})

    async def does(admin: str) -> None:
        async with shop.database.transaction() as tx:
            await perform(tx, act, Doer(admin, admin))

    async with shop.database.transaction() as first:
        await perform(first, act, Doer("admin:900", "k1"))
        second = asyncio.create_task(does("admin:901"))
        async with asyncio.timeout(5):
            while not await shop.column("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    with pytest.raises(Refused, match="already"):
        await second
    assert await shop.column("SELECT actor FROM refunds") == ["admin:900"]
    assert await shop.column("SELECT actor FROM audit WHERE action = 'payment.refund'") == ["admin:900"]
    await shop.books_are_right()


async def test_what_was_spent_of_a_payment_that_goes_back_is_owed_and_no_wallet_is_negative(
    shop: Shop, anna: SimUser
) -> None:
    payment = await shop.sells(anna)
    await shop.spends(anna, 70)
    await shop.refunds.refund(charge(payment), "operator", "dispute")
    await shop.works_off()
    assert await shop.available(anna) == 0
    assert await shop.account("receivable") == -70
    assert await shop.account("provider:stars") == 0
    assert any(m.says("Spent already of what they had bought: 70 credits.") for m in anna.messages)
    await shop.books_are_right()


async def test_credits_of_a_work_under_way_are_waited_for(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    await shop.spends(anna, 70, is_made=False)
    with pytest.raises(Refused, match="under_way"):
        await shop.refunds.refund(charge(payment), "operator", "too early")
    assert await shop.available(anna) == 30
    assert shop.sim.journal.calls("refundStarPayment") == []


async def test_a_work_begun_in_the_very_moment_of_the_refund_is_waited_for_too(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    async with shop.database.transaction() as buying:  # the press that buys is being handled by another replica
        made, price = new_id(), Quoted(35_000, 70_000)
        await buying.generations.add(Order(made, "press", anna.user_id, anna.chat_id, "m", {}, price, "en"))
        await buying.ledger.hold(made, anna.user_id, 70_000, max_open=20)
        refunding = asyncio.create_task(shop.refunds.refund(charge(payment), "operator", "at once"))
        async with asyncio.timeout(5):
            while not await shop.column("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    with pytest.raises(Refused, match="under_way"):
        await refunding
    assert await shop.available(anna) == 30
    assert await shop.column("SELECT count(*) FROM refunds") == [0]
    assert shop.sim.journal.calls("refundStarPayment") == []
    await shop.books_are_right()


async def test_an_unknown_charge_is_refused_before_anything_happens(shop: Shop) -> None:
    with pytest.raises(Refused, match="no_payment"):
        await shop.refunds.refund("stxnothing", "operator", "a typo")
    assert await shop.column("SELECT count(*) FROM refunds") == [0]


async def test_a_refund_made_elsewhere_is_booked_once(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    await shop.stars.pay_back(anna.user_id, charge(payment))  # by somebody with the token, not by us
    await shop.works_off()
    assert await shop.available(anna) == 0
    refund = await shop.refunds.refund(charge(payment), "operator", "and again by us")
    assert (refund.state, refund.actor) == (RefundState.DONE, "telegram")
    news = next(update for update in shop.seen if b"refunded_payment" in update.payload)
    await shop.handles(news.payload)
    assert await shop.account("provider:stars") == 0
    await shop.books_are_right()


async def test_the_news_of_a_refund_nobody_knows_the_payment_of_is_an_alarm(shop: Shop, anna: SimUser) -> None:
    payment = await shop.is_paid(anna, await shop.bill(anna))
    shop.sim.bot.queue.clear("dropped")
    await shop.stars.pay_back(anna.user_id, charge(payment))
    await shop.works_off()
    assert await shop.column("SELECT facts->>'why' FROM audit") == ["unknown_payment"]


async def test_a_payment_whose_news_is_handled_after_its_refund_leaves_nobody_with_credits_and_stars(
    shop: Shop, anna: SimUser
) -> None:
    """Its update was given up as a dead letter, and revived after Telegram had paid back."""
    payment = await shop.is_paid(anna, await shop.bill(anna))
    (news,) = [update for update in await shop.fetches() if b"successful_payment" in update.payload]
    await shop.stars.pay_back(anna.user_id, charge(payment))
    await shop.works_off()
    await shop.handles(news.payload)
    assert await shop.available(anna) == 0
    assert await shop.account("provider:stars") == 0
    assert await shop.column("SELECT state FROM refunds") == ["done"]
    assert await shop.column("SELECT count(*) FROM outbox WHERE key LIKE 'receipt:%'") == [0]
    assert await shop.column("SELECT count(*) FROM outbox WHERE key LIKE 'refunded:%'") == [1]
    await shop.books_are_right()


async def test_a_refund_that_was_tried_a_thousand_times_is_still_tried(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    shop.sim.faults.cuts_before("refundStarPayment")
    refund = await shop.refunds.refund(charge(payment), "operator", "away")
    await shop.execute("UPDATE refunds SET tries = 1500, next_at = now()")
    shop.sim.faults.cuts_before("refundStarPayment")
    await shop.refunds.advance(refund.id, is_urgent=True)
    assert await shop.column("SELECT next_at <= now() + interval '11 minutes' AND tries > 1500 FROM refunds") == [True]


async def test_a_crash_between_intent_and_call_keeps_the_credits_aside_until_a_sweeper_goes_on(
    shop: Shop, anna: SimUser
) -> None:
    payment = await shop.sells(anna)
    async with shop.database.transaction() as tx:  # the intent is committed, and then the process dies
        opened = await request_refund(tx, charge(payment), actor="operator", reason="crash")
    assert await shop.available(anna) == 0
    assert await shop.account("refunds") == 100
    await shop.books_are_right()
    found = await swept(shop)
    assert [each.refund_id for each in found] == [opened.id]
    await shop.refunds.advance(opened.id)
    await shop.works_off()
    assert shop.sim.bot.till.charges[charge(payment)].is_refunded
    assert await shop.account("refunds") == 0
    assert await swept(shop) == []
    await shop.books_are_right()


async def test_a_lost_answer_is_asked_for_again_and_refunded_before_counts_as_done(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    shop.sim.faults.cuts_after("refundStarPayment")
    refund = await shop.refunds.refund(charge(payment), "operator", "lost")
    assert refund.state is RefundState.OPEN
    assert shop.sim.bot.till.charges[charge(payment)].is_refunded
    await shop.refunds.advance(refund.id, is_urgent=True)
    await shop.works_off()
    assert await shop.column("SELECT state || tries FROM refunds") == ["done2"]
    assert await shop.available(anna) == 0
    await shop.books_are_right()


async def test_while_one_asks_nobody_else_does(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    async with shop.database.transaction() as tx:
        opened = await request_refund(tx, charge(payment), actor="operator", reason="once")
        assert await tx.payments.begin_try(opened.id, 60.0, is_urgent=False) is not None
    await shop.refunds.advance(opened.id)
    assert shop.sim.journal.calls("refundStarPayment") == []
    assert await swept(shop) == []


async def test_a_refund_that_telegram_refuses_gives_the_credits_back_and_may_be_asked_for_again(
    shop: Shop, anna: SimUser
) -> None:
    payment = await shop.sells(anna)
    taken = shop.sim.bot.till.charges.pop(charge(payment))
    refused = await shop.refunds.refund(charge(payment), "operator", "first")
    assert refused.state is RefundState.REFUSED
    assert "charge_not_found" in (refused.last_error or "").lower()
    assert await shop.available(anna) == 100
    await shop.books_are_right()
    shop.sim.bot.till.charges[charge(payment)] = taken
    assert (await shop.refunds.refund(charge(payment), "operator", "second")).state is RefundState.DONE
    await shop.works_off()
    assert await shop.available(anna) == 0
    await shop.books_are_right()


async def swept(shop: Shop) -> list[Repay]:
    async with shop.engine.begin() as connection:
        return await SweepRepository(connection).open_refunds(grace_s=-1.0)
