"""Our books against Telegram's, both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kiebot.payments.reconcile import Finding
from kiebot.simulators.users import Payment, SimUser
from tests.payments.conftest import Shop


async def lost(shop: Shop, anna: SimUser, credits: int = 100) -> Payment:
    """A payment whose news nobody ever fetched: the bot was down for more than a day."""
    payment = await shop.is_paid(anna, await shop.bill(anna, credits))
    assert payment.is_paid
    forget(shop)
    return payment


def forget(shop: Shop) -> None:
    """What waits at Telegram is given up."""
    shop.sim.bot.queue.clear("dropped")


async def test_books_that_agree_are_clean(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    await shop.sells(anna, 50)
    await shop.refunds.refund(str(payment.charge_id), "operator", "test")
    await shop.works_off()
    report = await shop.reconciliation().run(apply=False, fresh_s=0)
    assert (report.payments, report.refunds, report.differences, report.is_clean) == (2, 1, [], True)


async def test_what_was_paid_and_never_seen_is_credited_once_when_told_to(shop: Shop, anna: SimUser) -> None:
    payment = await lost(shop, anna)
    told = await shop.reconciliation().run(apply=False, fresh_s=0)
    assert [(each.finding, each.charge_id) for each in told.differences] == [(Finding.NEVER_SEEN, payment.charge_id)]
    assert not told.is_clean
    assert await shop.available(anna) == 0

    done = await shop.reconciliation().run(apply=True, fresh_s=0)
    assert done.is_clean
    assert (await shop.reconciliation().run(apply=True, fresh_s=0)).differences == []
    await shop.delivers()
    assert await shop.available(anna) == 100
    assert "100 credits added" in (anna.last_message.text or "")
    await anna.repeats_payment(payment)  # and should its update come after all
    await shop.works_off()
    assert await shop.available(anna) == 100
    await shop.books_are_right()


async def test_what_is_too_fresh_is_left_to_its_update(shop: Shop, anna: SimUser) -> None:
    await lost(shop, anna)
    report = await shop.reconciliation().run(apply=True, fresh_s=60)
    assert (report.fresh, report.differences) == (1, [])
    assert await shop.available(anna) == 0


async def test_a_refund_that_was_never_seen_is_booked_with_its_payment(shop: Shop, anna: SimUser) -> None:
    payment = await lost(shop, anna)
    await shop.stars.pay_back(anna.user_id, str(payment.charge_id))
    shop.sim.bot.queue.clear("dropped")
    report = await shop.reconciliation().run(apply=True, fresh_s=0)
    assert [each.finding for each in report.differences] == [Finding.NEVER_SEEN, Finding.REFUND_NEVER_SEEN]
    assert report.is_clean
    assert await shop.available(anna) == 0
    await shop.books_are_right()


async def test_what_telegram_does_not_know_is_told_and_never_mended(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    refunded = await shop.sells(anna, 50)
    await shop.refunds.refund(str(refunded.charge_id), "operator", "test")
    await shop.works_off()
    till = shop.sim.bot.till
    till.transactions = [
        {**each, "amount": 7} if each["id"] == payment.charge_id else each
        for each in till.transactions
        if "receiver" not in each
    ]
    report = await shop.reconciliation().run(apply=True, fresh_s=0)
    assert {each.finding for each in report.differences} == {Finding.OTHER_FACTS, Finding.REFUND_UNKNOWN_THERE}
    till.transactions = []
    report = await shop.reconciliation().run(apply=True, fresh_s=0)
    assert {each.finding for each in report.differences} == {Finding.UNKNOWN_THERE, Finding.REFUND_UNKNOWN_THERE}
    assert not report.is_clean


async def test_every_page_of_the_list_is_read(shop: Shop, anna: SimUser) -> None:
    source = {"type": "user", "transaction_type": "invoice_payment", "user": anna.user, "invoice_payload": "x"}
    shop.sim.bot.till.transactions = [
        {"id": f"stx{n}", "date": 1_700_000_000, "amount": 2, "source": source} for n in range(101)
    ]
    shop.sim.bot.till.transactions.append(
        {"id": "g", "date": 1_700_000_000, "amount": 2, "source": source | {"transaction_type": "gift_purchase"}}
    )
    report = await shop.reconciliation().run(apply=False)
    assert report.payments == len(report.differences) == 101


async def test_what_is_older_than_the_given_day_is_left_alone(shop: Shop, anna: SimUser) -> None:
    await lost(shop, anna)
    report = await shop.reconciliation().run(apply=True, fresh_s=0, since=datetime.now(UTC) + timedelta(days=1))
    assert (report.payments, report.differences) == (0, [])
