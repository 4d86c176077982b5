"""Polling, webhook and the command menu, as Telegram has them afterwards."""

from __future__ import annotations

import pytest

from kiebot.botapi.setup import TelegramSetup
from kiebot.botapi.updates import ALLOWED_UPDATES
from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.intake.ports import Conflict
from tests.botapi.conftest import Telegram

HOOK = "http://127.0.0.1:9/telegram/webhook"
SECRET = "s" * 32


async def test_the_state_of_a_token_names_the_bot_and_what_waits(telegram: Telegram, setup: TelegramSetup) -> None:
    await telegram.sim.user().sends("hi")
    state = await setup.token_state()
    assert (state.bot_id, state.username) == (telegram.sim.bot.bot_id, "kiebot_bot")
    assert (state.webhook_url, state.pending_update_count) == ("", 1)


async def test_polling_needs_no_call_when_no_webhook_is_set(telegram: Telegram, setup: TelegramSetup) -> None:
    assert await setup.ensure_polling() is False
    assert telegram.sim.journal.calls("deleteWebhook") == []


async def test_a_webhook_is_removed_before_polling_and_nothing_is_dropped(
    telegram: Telegram, setup: TelegramSetup
) -> None:
    await setup.ensure_webhook(HOOK, SECRET)
    await telegram.sim.user().sends("hi")
    assert await setup.ensure_polling() is True
    assert (await setup.token_state()).webhook_url == ""
    (call,) = telegram.sim.journal.calls("deleteWebhook")
    assert call.arguments.get("drop_pending_updates", "false") == "false"
    assert telegram.sim.journal.purges("dropped") == []


async def test_a_webhook_that_stays_is_not_taken_for_gone(telegram: Telegram, setup: TelegramSetup) -> None:
    await setup.ensure_webhook(HOOK, SECRET)
    telegram.sim.faults.answers("deleteWebhook", 200)
    with pytest.raises(Transient):
        await setup.ensure_polling()


async def test_a_webhook_is_set_with_its_secret_and_the_kinds_of_updates(
    telegram: Telegram, setup: TelegramSetup
) -> None:
    await setup.ensure_webhook(HOOK, SECRET, max_connections=7)
    state = await setup.token_state()
    assert (state.webhook_url, state.allowed_updates) == (HOOK, ALLOWED_UPDATES)
    (call,) = telegram.sim.journal.calls("setWebhook")
    assert (call.arguments["secret_token"], call.arguments["max_connections"]) == (SECRET, "7")


async def test_a_webhook_that_did_not_take_is_noticed(telegram: Telegram, setup: TelegramSetup) -> None:
    telegram.sim.faults.answers("setWebhook", 200)
    with pytest.raises(Transient):
        await setup.ensure_webhook(HOOK, SECRET)


async def test_a_refused_webhook_address_is_the_operators_to_fix(telegram: Telegram, setup: TelegramSetup) -> None:
    telegram.sim.rules.local_server = False
    with pytest.raises(Permanent, match=r"(?i)https url") as caught:
        await setup.ensure_webhook("http://bot.example.org/hook", SECRET)
    assert caught.value.code == "telegram_refused"


async def test_a_reset_drops_what_waits_only_when_told_to(telegram: Telegram, setup: TelegramSetup) -> None:
    await telegram.sim.user().sends("hi")
    assert await setup.reset(drop_pending=False) == 1
    assert await setup.reset(drop_pending=True) == 0


async def test_the_command_menu_is_written_only_where_it_differs(telegram: Telegram, setup: TelegramSetup) -> None:
    menus = {"": [("start", "Begin"), ("help", "How it works")], "ru": [("start", "Начать"), ("help", "Помощь")]}
    assert await setup.sync_commands(menus) == 2
    assert await setup.sync_commands(menus) == 0
    menus["ru"][1] = ("help", "Справка")
    assert await setup.sync_commands(menus) == 1


@pytest.mark.parametrize(
    ("status", "expected"), [(401, Permanent), (409, Conflict), (429, RateLimited), (502, Transient)]
)
async def test_failures_are_those_of_a_poll(
    telegram: Telegram, setup: TelegramSetup, status: int, expected: type[Exception]
) -> None:
    telegram.sim.faults.answers("getWebhookInfo", status, "x")
    with pytest.raises(expected):
        await setup.ensure_polling()
