"""From /topup to credits in the wallet: once per charge, whatever comes twice, late, or made up."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from decimal import Decimal

import pytest

from kiebot.delivery.courier import MAX_TRIES
from kiebot.payments import invoice
from kiebot.payments.invoice import Invoice
from kiebot.simulators.users import Payment, SimUser
from tests.payments.conftest import KEY, Shop


async def test_a_payment_buys_what_its_bill_said_and_a_receipt_says_so(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna, 250)
    assert bill.invoice is not None
    assert (bill.invoice["total_amount"], bill.invoice["title"]) == (500, "250 credits")
    payment = await shop.is_paid(anna, bill)
    await shop.works_off()
    assert payment.is_paid
    assert await shop.available(anna) == 250
    assert anna.last_message.text == "Thank you! ⭐ 500 paid, 250 credits added. You have 250 credits."
    assert await shop.account("provider:stars") == -250
    await shop.books_are_right()


async def test_the_news_of_one_payment_counts_once_however_often_it_comes(shop: Shop, anna: SimUser) -> None:
    payment = await shop.sells(anna)
    told = len(anna.messages)
    await anna.repeats_payment(payment)  # under a new update id
    await shop.works_off()
    assert await shop.available(anna) == 100
    assert len(anna.messages) == told
    await shop.books_are_right()


async def test_payments_at_once_are_each_booked(shop: Shop, anna: SimUser) -> None:
    ben = shop.sim.user(502, "Ben")
    bills = [await shop.bill(anna), await shop.bill(ben, 50)]
    paying = asyncio.gather(*(who.pays(bill) for who, bill in zip((anna, ben), bills, strict=True)))
    await asyncio.sleep(0)
    while len(shop.sim.journal.calls("answerPreCheckoutQuery")) < 2:
        for update in await shop.fetches():
            await shop.handles(update.payload)
    await paying
    await shop.works_off()
    assert [await shop.available(who) for who in (anna, ben)] == [100, 50]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "This invoice was made for somebody else. No Stars were taken."),
        ("ru", "Этот счёт выставлен другому человеку. Звёзды не списаны."),
    ],
)
async def test_nobody_else_can_pay_a_bill_and_is_told_why_in_their_own_language(
    shop: Shop, anna: SimUser, language: str, words: str
) -> None:
    bill = await shop.bill(anna)
    ben = shop.sim.user(502, "Ben", language)
    payment = await shop.is_paid(ben, bill)
    assert not payment.is_paid
    assert payment.error.startswith(words)


async def test_a_bill_of_yesterday_is_refused_in_the_language_it_was_written_in(shop: Shop) -> None:
    olga = shop.sim.user(503, "Olga", "ru")
    await olga.sends("/topup")
    await shop.works_off()
    await olga.presses("100 кредитов · ⭐ 200")
    await shop.works_off()
    shop.clock.ahead_s = invoice.VALID_S + 1
    payment = await shop.is_paid(olga, olga.last_message)
    assert payment.error == "Этот счёт устарел. Звёзды не списаны. Отправьте /topup, чтобы получить новый."


async def test_a_bill_with_another_amount_is_refused(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna)
    assert bill.invoice is not None
    bill.body["invoice"] = bill.invoice | {"total_amount": 1}
    payment = await shop.is_paid(anna, bill)
    assert not payment.is_paid
    assert "price do not fit" in payment.error


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "100 credits",
        invoice.sign(Invoice(100, 200, 501, 2_000_000_000, "en"), b"another bot's key"),
        invoice.sign(Invoice(100, 200, 501, 2_000_000_000, "en"), KEY).replace(".100.", ".999."),
    ],
)
async def test_what_we_did_not_sign_is_refused(shop: Shop, anna: SimUser, payload: str) -> None:
    bill = await shop.bill(anna)
    bill.invoice_payload = payload
    payment = await shop.is_paid(anna, bill)
    assert not payment.is_paid
    assert payment.error.startswith("This invoice is out of date. No Stars were taken.")


async def test_a_question_answered_too_late_takes_no_stars_and_disturbs_nothing(shop: Shop, anna: SimUser) -> None:
    payment = await anna.pays(await shop.bill(anna))  # nobody polls until Telegram has given up
    assert not payment.is_paid
    await shop.works_off()
    (answer,) = shop.sim.journal.calls("answerPreCheckoutQuery")
    assert answer.status == 400
    assert await shop.available(anna) == 0


async def test_a_lost_answer_is_given_again_while_the_payer_waits(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna)
    shop.sim.faults.answers("answerPreCheckoutQuery", 502)
    assert (await shop.is_paid(anna, bill)).is_paid
    assert len(shop.sim.journal.calls("answerPreCheckoutQuery")) == 2


async def test_a_question_is_answered_while_postgres_is_away(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna)
    await shop.engine.dispose()
    assert (await shop.is_paid(anna, bill)).is_paid  # which records nothing and handles nothing


async def test_a_payment_whose_invoice_says_nothing_is_credited_by_its_stars_with_an_alarm(
    shop: Shop, anna: SimUser
) -> None:
    paid = Payment("stxlost", 33, "from another program")
    await anna.repeats_payment(paid)
    await shop.works_off()
    assert await shop.available(anna) == Decimal("16.5")
    assert "counted by the Stars you paid" in (anna.last_message.text or "")
    assert await shop.column("SELECT problem FROM payments") == ["unreadable"]
    assert await shop.column("SELECT facts->>'why' FROM audit WHERE action = 'payment.alarm'") == ["unreadable"]
    await shop.books_are_right()


async def test_a_payment_after_the_bills_end_still_buys_what_it_said(shop: Shop, anna: SimUser) -> None:
    payment = await shop.is_paid(anna, await shop.bill(anna))
    shop.clock.ahead_s = invoice.VALID_S + 1
    await shop.works_off()
    assert payment.is_paid
    assert await shop.available(anna) == 100


async def test_a_charge_that_comes_again_with_another_amount_is_an_alarm_and_no_credit(
    shop: Shop, anna: SimUser
) -> None:
    payment = await shop.sells(anna)
    await anna.repeats_payment(dataclasses.replace(payment, amount=9_999))
    await shop.works_off()
    assert await shop.available(anna) == 100
    assert await shop.column("SELECT facts->>'why' FROM audit") == ["mismatch"]
    assert await shop.column("SELECT count(*) FROM inbox") == [0]  # handled here, not buried by a drain
    await shop.books_are_right()


async def test_a_payment_in_another_currency_buys_nothing_and_is_an_alarm(shop: Shop, anna: SimUser) -> None:
    await shop.sells(anna)
    news = json.loads(next(update for update in shop.seen if b"successful_payment" in update.payload).payload)
    sold_before = {"currency": "UZS", "total_amount": 5_000_000, "telegram_payment_charge_id": "x1"}
    news["message"]["successful_payment"] |= sold_before | {"invoice_payload": "order 17"}
    told = len(anna.messages)
    await shop.handles(json.dumps(news).encode())
    assert await shop.available(anna) == 100
    assert len(anna.messages) == told
    assert await shop.column("SELECT facts->>'why' FROM audit") == ["other_currency"]
    await shop.books_are_right()


async def test_somebody_who_was_banned_gets_the_credits_that_were_paid(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna)
    await shop.execute("UPDATE users SET banned_at = now()")
    await shop.is_paid(anna, bill)
    await shop.works_off()
    assert await shop.available(anna) == 100


async def test_paysupport_names_the_contact_and_the_last_payments(shop: Shop, anna: SimUser) -> None:
    await anna.sends("/paysupport")
    await shop.works_off()
    assert "paid nothing yet" in (anna.last_message.text or "")
    payment = await shop.sells(anna)
    await anna.sends("/paysupport")
    await shop.works_off()
    said = anna.last_message.text or ""
    assert "@shop_help" in said
    assert "⭐ 200 · 100 credits" in said
    assert payment.charge_id is not None
    assert payment.charge_id in said


async def test_a_forwarded_bill_leads_to_a_bill_of_ones_own(shop: Shop, anna: SimUser) -> None:
    bill = await shop.bill(anna)
    assert bill.invoice is not None
    await anna.sends(f"/start {bill.invoice['start_parameter']}")
    await shop.works_off()
    assert "How many credits?" in (anna.last_message.text or "")


async def test_a_payment_that_cannot_be_booked_is_not_called_free(shop: Shop, anna: SimUser) -> None:
    payment = await shop.is_paid(anna, await shop.bill(anna))
    assert payment.is_paid
    (update,) = [u for u in shop.seen if b"successful_payment" in u.payload] or await shop.fetches()
    async with shop.database.transaction() as tx:
        (draft,) = await shop.handler.apologise(tx, update.payload, "U1")
    said = json.dumps(draft.payload)
    assert "Nothing was charged" not in said
    assert "It is not lost" in said


async def test_a_receipt_outlasts_an_outage_of_telegrams_in_which_a_screen_is_given_up(
    shop: Shop, anna: SimUser
) -> None:
    await shop.is_paid(anna, await shop.bill(anna))
    shop.sim.faults.answers("sendMessage", 502, body=b"<html>", times=MAX_TRIES + 2)
    await shop.works_off()
    for _ in range(MAX_TRIES + 1):
        await shop.execute("UPDATE outbox SET next_at = now() WHERE sent_at IS NULL")
        await shop.delivers()
    assert await shop.column("SELECT count(*) FROM dead_letters") == [0]
    await shop.execute("UPDATE outbox SET next_at = now() WHERE sent_at IS NULL")
    await shop.delivers()
    assert anna.last_message.says("Thank you!", "100 credits added")
