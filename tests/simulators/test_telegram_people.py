"""Scripted people: presses and their deadline (X7), waiting for messages, payments (X5, X6), groups."""

import asyncio
import json
from typing import Any

import pytest

from kiebot.simulators.telegram import Rules, TelegramSimulator
from kiebot.simulators.telegram.paying import Payment
from kiebot.simulators.users import SimUser
from tests.simulators.telegram_kit import Api, telegram

TOO_OLD = "Bad Request: query is too old and response timeout expired or query ID is invalid"
INVOICE = {"title": "Credits", "description": "100 credits", "payload": "p1", "currency": "XTR"}
INVOICE |= {"prices": '[{"label":"x","amount":50}]'}


def keyboard(*labels: str) -> str:
    return json.dumps({"inline_keyboard": [[{"text": label, "callback_data": label.lower()} for label in labels]]})


async def updates(api: Api) -> list[Any]:
    found: list[Any] = await api.ok("getUpdates", limit=99)
    if found:
        await api.ok("getUpdates", offset=found[-1]["update_id"] + 1)
    return found


async def test_a_press_carries_the_message_and_its_answer_comes_back_with_its_latency() -> None:
    async with telegram() as (sim, clock, api):
        anna = sim.user(language_code="ru")
        await api.ok("sendMessage", chat_id=anna.user_id, text="old", reply_markup=keyboard("Start"))
        await api.ok("sendMessage", chat_id=anna.user_id, text="new", reply_markup=keyboard("Start over", "Stop"))
        press = await anna.presses("stop")
        assert press is not None
        [update] = await updates(api)
        query = update["callback_query"]
        assert (query["data"], query["message"]["text"], query["from"]["language_code"]) == ("stop", "new", "ru")
        assert query["message"]["reply_markup"]["inline_keyboard"][0][1]["text"] == "Stop"
        await clock.advance(2)
        await api.ok("answerCallbackQuery", callback_query_id=query["id"], text="Stopped", show_alert="true")
        answer = await press.answered()
        assert (answer.text, answer.is_alert, answer.latency_s) == ("Stopped", True, 2.0)
        assert anna.callback_answers == [answer]
        assert anna.update_ids == [update["update_id"]]


async def test_an_exact_label_beats_a_part_and_the_newest_message_comes_first() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        await api.ok("sendMessage", chat_id=anna.user_id, text="a", reply_markup=keyboard("Start"))
        await api.ok("sendMessage", chat_id=anna.user_id, text="b", reply_markup=keyboard("Start over"))
        exact, part = await anna.presses("Start"), await anna.presses("start")
        assert exact is not None
        assert part is not None
        assert (exact.data, part.data) == ("start", "start over")
        with pytest.raises(LookupError, match=r"no button like 'Buy'; in sight: \['Start over', 'Start'\]"):
            await anna.presses("Buy")
        forged = await anna.presses_data("v1:forged")
        assert forged.data == "v1:forged"


async def test_a_press_answered_too_late_or_twice_is_refused() -> None:
    async with telegram(setup=lambda rules: setattr(rules, "callback_answers_once", True)) as (sim, clock, api):
        anna = sim.user()
        await api.ok("sendMessage", chat_id=anna.user_id, text="a", reply_markup=keyboard("Go"))
        press = await anna.presses("Go")
        assert press is not None
        await clock.advance(15)
        await api.ok("answerCallbackQuery", callback_query_id=press.query_id)
        assert await api.refused("answerCallbackQuery", callback_query_id=press.query_id) == (400, TOO_OLD)
        late = await anna.presses("Go")
        assert late is not None
        await clock.advance(15.1)
        assert await api.refused("answerCallbackQuery", callback_query_id=late.query_id) == (400, TOO_OLD)
        assert await api.refused("answerCallbackQuery", callback_query_id="1") == (400, TOO_OLD)


async def test_a_press_on_a_deleted_message_carries_a_stub() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sent = await api.ok("sendMessage", chat_id=anna.user_id, text="a", reply_markup=keyboard("Go"))
        message = anna.last_message
        await api.ok("deleteMessage", chat_id=anna.user_id, message_id=sent["message_id"])
        await anna.presses_data("go", message=message)
        [update] = await updates(api)
        assert update["callback_query"]["message"]["date"] == 0


async def test_hearing_waits_for_messages_and_edits_since_the_last_act() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        await api.ok("sendMessage", chat_id=anna.user_id, text="Working: queued")
        await anna.sends("/start now")
        waiting = asyncio.create_task(anna.hears("working", timeout=2))
        sent = await api.ok("sendMessage", chat_id=anna.user_id, text="Working: running")
        where = {"chat_id": anna.user_id, "message_id": sent["message_id"]}
        await api.ok("editMessageText", **where, text="Done")
        card = await waiting
        assert card.text == "Done"  # the live message
        assert (await anna.hears(lambda state: state.text == "Done")) is card
        with pytest.raises(TimeoutError, match="nothing like 'Done'"):
            await anna.hears("Done", timeout=0.01)
        assert (await anna.hears("queued", ever=True)).message_id == 1
        [update] = await updates(api)
        assert update["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]


async def paid(sim: TelegramSimulator, api: Api, anna: SimUser, ok: bool, **more: Any) -> Payment:
    """Anna pays the last invoice; the bot answers the question."""
    paying = asyncio.create_task(anna.pays(anna.last_message))
    await asyncio.sleep(0)
    query = (await updates(api))[-1]["pre_checkout_query"]
    await api.ok("answerPreCheckoutQuery", pre_checkout_query_id=query["id"], ok=str(ok), **more)
    del sim
    return await paying


async def test_stars_move_only_after_the_bot_agreed_and_come_back_once() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        await api.ok("sendInvoice", chat_id=anna.user_id, **INVOICE)
        refused = await paid(sim, api, anna, False, error_message="sold out")
        assert (refused.is_paid, refused.error) == (False, "sold out")
        payment = await paid(sim, api, anna, True)
        [update] = await updates(api)
        success = update["message"]["successful_payment"]
        assert success["telegram_payment_charge_id"] == payment.charge_id
        assert (success["total_amount"], success["invoice_payload"]) == (50, "p1")
        again = await anna.repeats_payment(payment)
        [repeated] = await updates(api)
        assert repeated["update_id"] == again.update_ids[0]
        assert repeated["message"]["successful_payment"] == success
        assert await api.ok("getMyStarBalance") == {"amount": 50}
        refund = {"user_id": anna.user_id, "telegram_payment_charge_id": payment.charge_id}
        await api.ok("refundStarPayment", **refund)
        assert await api.refused("refundStarPayment", **refund) == (400, "Bad Request: CHARGE_ALREADY_REFUNDED")
        [told] = await updates(api)
        assert told["message"]["refunded_payment"]["telegram_payment_charge_id"] == payment.charge_id
        transactions = (await api.ok("getStarTransactions"))["transactions"]
        assert [("source" in t, "receiver" in t, t["id"]) for t in transactions] == [
            (True, False, payment.charge_id),
            (False, True, payment.charge_id),
        ]
        assert await api.ok("getMyStarBalance") == {"amount": 0}


async def test_a_checkout_answered_after_ten_seconds_moves_no_stars() -> None:
    async with telegram() as (sim, clock, api):
        anna = sim.user()
        await api.ok("sendInvoice", chat_id=anna.user_id, **INVOICE)
        paying = asyncio.create_task(anna.pays(anna.last_message))
        await clock.settle()
        [update] = await updates(api)
        await clock.advance(10)
        payment = await paying
        assert (payment.is_paid, payment.error) == (False, "")
        late = {"pre_checkout_query_id": update["pre_checkout_query"]["id"], "ok": "true"}
        assert await api.refused("answerPreCheckoutQuery", **late) == (400, TOO_OLD)
        assert (await paid(sim, api, anna, True)).is_paid  # they may try again


async def test_invoices_in_stars_have_one_price_and_a_link_renews() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        for change, text in (
            ({"prices": "[]"}, "STARS_INVOICE_INVALID"),
            ({"provider_token": "x"}, "STARS_INVOICE_INVALID"),
            ({"payload": "x" * 129}, "INVOICE_PAYLOAD_INVALID"),
            ({"title": ""}, 'parameter "title" is required'),
        ):
            refused = await api.refused("createInvoiceLink", **{**INVOICE, **change})
            assert refused == (400, f"Bad Request: {text}")
        refused = await api.refused("answerPreCheckoutQuery", pre_checkout_query_id="1", ok="false")
        assert refused == (400, 'Bad Request: parameter "error_message" is required')
        link = await api.ok("createInvoiceLink", **INVOICE, subscription_period=2592000)
        paying = asyncio.create_task(anna.pays(link))
        await asyncio.sleep(0)
        query = (await updates(api))[-1]["pre_checkout_query"]
        await api.ok("answerPreCheckoutQuery", pre_checkout_query_id=query["id"], ok="true")
        renewed = await anna.renews(await paying)
        first, second = [update["message"]["successful_payment"] for update in await updates(api)]
        assert first["is_first_recurring"] is True
        assert "is_first_recurring" not in second
        assert second["telegram_payment_charge_id"] == renewed.charge_id != first["telegram_payment_charge_id"]


async def test_people_act_in_groups() -> None:
    async with telegram(Rules(callback_deadline_s=60)) as (sim, _, api):
        anna = sim.user()
        group = sim.group(-1001, "Studio", [anna])
        await anna.sends("hello", chat=group)
        await api.ok("sendMessage", chat_id=-1001, text="pick", reply_markup=keyboard("Cat"))
        assert group.last_message.buttons == ["Cat"]
        await anna.presses("cat", chat=group)
        message, press = await updates(api)
        assert message["message"]["chat"] == {"id": -1001, "type": "supergroup", "title": "Studio"}
        assert press["callback_query"]["message"]["chat"]["id"] == -1001
        assert (await group.hears("pick", ever=True)).text == "pick"
