from __future__ import annotations

import asyncio
import dataclasses

import pytest

from kiebot.bot.application import BotHandler
from kiebot.errors import Transient
from kiebot.intake.drain import Malformed, UpdateHandler
from kiebot.people import DraftRow
from tests.bot.doubles import FakeTx
from tests.bot.people import BOT_ID, SETTINGS, USERNAME, Phone, payload, photo
from tests.bot.tables import NOW

GROUP = -100500


@pytest.mark.parametrize("raw", [b"", b"no json", b"[]", b"{}", b'{"update_id": 1, "message": {"text": "x"}}', b"\xff"])
async def test_what_is_no_update_is_malformed(handler: BotHandler, raw: bytes) -> None:
    with pytest.raises(Malformed):
        await handler.handle(FakeTx(), raw)
    assert handler.press_of(raw) is None
    assert await handler.apologise(FakeTx(), raw, "U1") == []


async def test_the_handler_keeps_the_promise_of_the_drain(handler: BotHandler) -> None:
    promised: UpdateHandler = handler
    assert promised.press_of(payload(callback_query={"id": "77"})) == "77"
    assert promised.press_of(payload(message={"text": "x"})) is None


async def test_what_a_handler_raises_reaches_the_drain(anna: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(user_id: int) -> None:
        raise Transient("postgres went away")

    await anna.says("/start")
    monkeypatch.setattr(anna.tx.ledger, "balance", fails)
    with pytest.raises(Transient, match="went away"):
        await anna.says("/balance")
    monkeypatch.undo()
    await anna.says("/balance")  # and the next update is handled as ever
    assert "You have" in anna.screen.text


async def test_users_handled_at_the_same_time_do_not_get_each_others_answers(handler: BotHandler) -> None:
    phones = [Phone(handler, FakeTx(), user_id=n, chat_id=n, code="ru" if n % 2 else "en") for n in range(100, 120)]
    await asyncio.gather(*(phone.says("/help") for phone in phones))
    for phone in phones:
        assert [draft.chat_id for draft in phone.drafts] == [phone.chat_id]
        assert ("Пришлите" in phone.screen.text) is bool(phone.user_id % 2)


async def test_a_given_up_first_update_does_not_cost_the_welcome_credits(anna: Phone) -> None:
    await anna.handler.apologise(anna.tx, payload(message=anna.message({"text": "hi"})), "U1")
    await anna.says("/start")
    assert (await anna.tx.ledger.balance(anna.user_id)).available == 50_000


async def test_a_given_up_update_is_answered_with_an_id_to_quote(anna: Phone) -> None:
    anna.code = "ru"
    sent = payload(message=anna.message({"text": "привет"}))
    (draft,) = await anna.handler.apologise(anna.tx, sent, "U17")
    assert draft.chat_id == anna.chat_id
    assert "U17" in str(draft.payload["text"])
    assert "Ничего не списано" in str(draft.payload["text"])


async def test_who_was_not_read_is_told_so_in_their_language_once_a_minute(anna: Phone) -> None:
    anna.code = "ru"
    sent = payload(message=anna.message({"text": "привет"}))
    (first,) = await anna.handler.too_fast(anna.tx, sent)
    (second,) = await anna.handler.too_fast(anna.tx, sent)
    assert first.key == second.key  # the outbox takes it once
    assert "Слишком много сразу" in str(first.payload["text"])
    assert await anna.handler.too_fast(anna.tx, b"no update at all") == []


@pytest.mark.parametrize("kind", ["edited_message", "channel_post", "edited_channel_post"])
async def test_edits_and_channel_posts_are_ignored(anna: Phone, kind: str) -> None:
    assert await anna.update(**{kind: anna.message({"text": "/start"})}) == []


async def test_kinds_of_updates_we_did_not_ask_for_are_ignored(anna: Phone) -> None:
    assert await anna.update(poll_answer={"poll_id": "1", "option_ids": [1], "option_persistent_ids": []}) == []
    assert await anna.sends(pinned_message=anna.message({"text": "x"})) == []


async def test_a_kind_nobody_knows_is_no_update(anna: Phone) -> None:
    with pytest.raises(Malformed, match="unknown kind: brand_new_kind"):
        await anna.update(brand_new_kind={"from": {"id": 1}})


async def test_a_block_is_remembered_until_the_user_writes_again(anna: Phone) -> None:
    await anna.says("/start")
    await anna.update(my_chat_member=_membership(anna, "kicked"))
    assert anna.user_id in anna.tx.tables.blocked
    await anna.says("/start")
    assert anna.user_id not in anna.tx.tables.blocked


async def test_a_banned_user_gets_one_sentence_and_nothing_happens(anna: Phone) -> None:
    await anna.says("/start")
    anna.tx.tables.users[anna.user_id] = dataclasses.replace(anna.tx.tables.users[anna.user_id], banned_at=NOW)
    keys = set()
    for text in ("/start", "hello"):
        (draft,) = await anna.says(text)
        assert "You cannot use this bot. Your credits stay as they are." in str(draft.payload["text"])
        keys.add(draft.key)
    assert len(keys) == 1, "the outbox takes a key once"
    assert anna.tx.tables.drafts == {}


async def test_a_draft_that_no_version_can_read_is_an_empty_desk(anna: Phone) -> None:
    await anna.says("/start")
    anna.tx.tables.drafts[anna.user_id, anna.chat_id] = DraftRow(7, {"form": [1, 2], "later": True}, 5)
    await anna.says("a cat")
    assert "What shall I make of it?" in anna.screen.text


async def test_a_group_hears_the_bot_only_when_it_is_addressed(handler: BotHandler) -> None:
    anna = Phone(handler, FakeTx(), chat_id=GROUP)
    for talk in ("hello all", "/help", "/help@another_bot"):
        assert await anna.says(talk) == []
    assert await anna.sends(**photo()) == []
    assert anna.tx.tables.users == {}
    await anna.says(f"/models@{USERNAME}")
    assert len(anna.drafts) == 1
    await anna.presses_word("k1:image:0")
    await anna.presses_word("m1:")
    assert await anna.says("a cat for nobody") == []
    own = {"message_id": 5, "date": 1, "chat": {"id": GROUP, "type": "supergroup", "title": "g"}}
    bot = {"id": BOT_ID, "is_bot": True, "first_name": "kiebot"}
    await anna.says("a cat for the bot", reply_to_message={**own, "from": bot, "text": "…"})
    assert "a cat for the bot" in anna.screen.text


async def test_in_a_group_everybody_has_a_form_and_a_wallet_of_their_own(handler: BotHandler) -> None:
    tx = FakeTx()
    anna, boris = Phone(handler, tx, chat_id=GROUP), Phone(handler, tx, user_id=43, chat_id=GROUP)
    for phone in (anna, boris):
        await phone.says(f"/models@{USERNAME}")
        await phone.presses_word("k1:image:0")
    assert await boris.presses(anna.button("m1:"), on=anna.screen) == []
    await anna.presses_word("m1:")
    assert set(tx.tables.drafts) == {(42, GROUP)}
    assert set(tx.tables.wallets) >= {"wallet:42", "wallet:43"}


async def test_a_bot_whose_name_is_not_known_yet_serves_private_chats() -> None:
    nameless = BotHandler(dataclasses.replace(SETTINGS, bot_username=""), BOT_ID)
    anna = Phone(nameless, FakeTx())
    await anna.says("/help")
    assert "/models" in anna.screen.text
    group = Phone(nameless, FakeTx(), chat_id=GROUP)
    assert await group.says("/help@") == []
    assert await group.says("/help") == []


async def test_other_bots_are_not_answered(anna: Phone) -> None:
    message = anna.message({"text": "/start"})
    message["from"]["is_bot"] = True
    assert await anna.update(message=message) == []


async def test_a_press_under_a_message_telegram_no_longer_shows_is_answered(anna: Phone) -> None:
    await anna.says("/start")
    data = anna.button("n1:help").data
    gone = {"message_id": 9, "date": 0, "chat": {"id": anna.chat_id, "type": "private"}}
    sender = {"id": anna.user_id, "is_bot": False, "first_name": "Anna"}
    query = {"id": "q", "from": sender, "chat_instance": "1", "data": data, "message": gone}
    await anna.update(callback_query=query)
    assert "/models" in anna.screen.text


async def test_a_button_of_a_version_we_do_not_know_leads_back_politely(anna: Phone) -> None:
    await anna.says("/start")
    owned = (anna.screen.buttons[0].data or "").rpartition("~")[2]
    await anna.presses(dataclasses.replace(anna.screen.buttons[0], data=f"z9:what~~{owned}"))
    assert "That screen is old" in anna.screen.text


def _membership(anna: Phone, status: str) -> dict[str, object]:
    bot = {"id": BOT_ID, "is_bot": True, "first_name": "kiebot"}
    return {
        "chat": {"id": anna.chat_id, "type": "private", "first_name": "Anna"},
        "from": {"id": anna.user_id, "is_bot": False, "first_name": "Anna"},
        "date": 1,
        "old_chat_member": {"user": bot, "status": "member"},
        "new_chat_member": {"user": bot, "status": status, "until_date": 0},
    }
