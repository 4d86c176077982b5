"""Telegram's refusals and the network's failures, as what the courier does next."""

from __future__ import annotations

import pytest
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)

from kiebot.botapi.errors import asking, sending, wait_s
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.request import FloodWait, NoAnswer, NotSent, UploadTooLarge
from kiebot.delivery import ports
from kiebot.errors import AccountStopped, KiebotError, OutcomeUnknown, Permanent, RateLimited, Transient
from tests.botapi.conftest import Telegram

CHAT = 700_000_001


def as_sent(error: Exception) -> KiebotError:
    with pytest.raises(KiebotError) as caught, sending("sendMessage"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("status", "description", "expected", "code"),
    [
        (403, "Forbidden: bot was blocked by the user", ports.ChatGone, "blocked"),
        (403, "Forbidden: user is deactivated", ports.ChatGone, "deactivated"),
        (403, "Forbidden: bot can't initiate conversation with a user", ports.ChatGone, "never_started"),
        (403, "Forbidden: bot was kicked from the supergroup chat", ports.ChatGone, "removed"),
        (403, "Forbidden: bot is not a member of the channel chat", ports.ChatGone, "removed"),
        (403, "Forbidden: a reason of next year", ports.ChatGone, "chat_gone"),
        (400, "Bad Request: chat not found", ports.ChatGone, "chat_gone"),
        (400, "Bad Request: PEER_ID_INVALID", ports.ChatGone, "chat_gone"),
        (400, "Bad Request: not enough rights to send text messages to the chat", ports.ChatGone, "chat_gone"),
        (400, "Bad Request: not enough rights to send photos to the chat", ports.MediaRefused, "media_refused"),
        (400, "Bad Request: message to edit not found", ports.MessageGone, "message_gone"),
        (400, "Bad Request: message can't be edited", ports.MessageGone, "message_gone"),
        (400, "Bad Request: there is no text in the message to edit", ports.MessageGone, "message_gone"),
        (400, "Bad Request: message can't be deleted", ports.MessageGone, "message_gone"),
        (400, "Bad Request: PHOTO_INVALID_DIMENSIONS", ports.MediaRefused, "media_refused"),
        (400, "Bad Request: IMAGE_PROCESS_FAILED", ports.MediaRefused, "media_refused"),
        (400, "Bad Request: file of size 9 bytes is too big for a photo; the maximum size is 8 bytes",
         ports.MediaRefused, "media_refused"),
        (400, "Bad Request: wrong file identifier/HTTP URL specified", ports.MediaRefused, "media_refused"),
        (400, "Bad Request: document can't be mixed with other media types", ports.MediaRefused, "media_refused"),
        (400, 'Bad Request: failed to send message #2 with the error message "X"', ports.MediaRefused, "media_refused"),
        (413, "Request Entity Too Large", ports.MediaRefused, "too_large"),
        (400, "Bad Request: message is too long", Permanent, "too_long"),
        (400, "Bad Request: message caption is too long", Permanent, "too_long"),
        (400, "Bad Request: message text is empty", Permanent, "empty"),
        (400, "Bad Request: BUTTON_DATA_INVALID", Permanent, "bad_keyboard"),
        (400, "Bad Request: a sentence of next year", Permanent, "telegram_refused"),
    ],
)  # fmt: skip
async def test_a_refusal_says_what_is_wrong(
    telegram: Telegram,
    messenger: TelegramMessenger,
    status: int,
    description: str,
    expected: type[Permanent],
    code: str,
) -> None:
    telegram.sim.faults.answers("sendMessage", status, description)
    with pytest.raises(Permanent) as caught:
        await messenger.send_text(CHAT, "hi")
    assert (type(caught.value), caught.value.code) == (expected, code)


@pytest.mark.parametrize(
    ("status", "description"),
    [(401, "Unauthorized"), (404, "Not Found"), (421, "Misdirected Request"), (400, "Logged out")],
)
async def test_a_refused_token_buries_nothing(
    telegram: Telegram, messenger: TelegramMessenger, status: int, description: str
) -> None:
    telegram.sim.faults.answers("sendMessage", status, description)
    with pytest.raises(AccountStopped) as caught:
        await messenger.send_text(CHAT, "hi")
    assert (caught.value.reason, caught.value.retry_after_s) == ("token", 60.0)


async def test_a_flood_limit_says_how_long(telegram: Telegram, messenger: TelegramMessenger) -> None:
    telegram.sim.faults.answers("sendMessage", 429, retry_after=33)
    with pytest.raises(RateLimited) as caught:
        await messenger.send_text(CHAT, "hi")
    assert caught.value.retry_after_s == 33


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_in_trouble_may_have_sent_it(
    telegram: Telegram, messenger: TelegramMessenger, status: int
) -> None:
    telegram.sim.faults.answers("sendMessage", status, body=b"<html>")
    with pytest.raises(OutcomeUnknown):
        await messenger.send_text(CHAT, "hi")


@pytest.mark.parametrize("status", [301, 400, 403, 404])
async def test_a_page_that_turns_us_away_blocks_no_user(
    telegram: Telegram, messenger: TelegramMessenger, status: int
) -> None:
    telegram.sim.faults.answers("sendMessage", status, body=b"<html>Access denied by your provider</html>")
    with pytest.raises(Transient):
        await messenger.send_text(CHAT, "hi")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"ok":true}', b'{"ok":true,"result":{"message_id":1}}'])
async def test_an_unreadable_yes_may_have_been_a_yes(
    telegram: Telegram, messenger: TelegramMessenger, body: bytes
) -> None:
    telegram.sim.faults.answers("sendMessage", 200, body=body)
    with pytest.raises(OutcomeUnknown):
        await messenger.send_text(CHAT, "hi")


async def test_a_lost_answer_leaves_the_outcome_unknown(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    telegram.sim.faults.cuts_after("sendMessage")
    with pytest.raises(OutcomeUnknown):
        await messenger.send_text(anna.chat_id, "hi")
    assert anna.last_message.text == "hi"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimedOut(), OutcomeUnknown),
        (NetworkError("httpx.ReadError: "), OutcomeUnknown),
        (NoAnswer("HTTP 502"), OutcomeUnknown),
        (TelegramError("anything"), OutcomeUnknown),
        (KeyError("result"), OutcomeUnknown),
        (NotSent("no connection"), Transient),
        (Conflict("terminated by setWebhook request"), Transient),
        (InvalidToken("Unauthorized"), AccountStopped),
        (UploadTooLarge("x"), ports.MediaRefused),
        (ChatMigrated(-100), ports.ChatMigrated),
        (FloodWait(4), RateLimited),
    ],
)
def test_only_what_certainly_did_not_happen_is_called_transient(error: Exception, expected: type[KiebotError]) -> None:
    assert type(as_sent(error)) is expected


def test_errors_of_ours_pass_unchanged() -> None:
    error = ports.MessageGone("gone")
    assert as_sent(error) is error
    with pytest.raises(ports.MessageGone), asking("getFile"):
        raise error


@pytest.mark.parametrize("error", [TimedOut(), NetworkError("x"), NotSent("x"), NoAnswer("x"), KeyError("x")])
def test_a_question_may_always_be_asked_again(error: Exception) -> None:
    with pytest.raises(Transient), asking("getWebhookInfo"):
        raise error


@pytest.mark.filterwarnings("ignore:.*retry_after.*")
def test_the_seconds_to_wait_are_read_from_either_kind_of_flood_error() -> None:
    assert (wait_s(FloodWait(2.5)), wait_s(RetryAfter(7))) == (2.5, 7.0)
    assert FloodWait(2.5).retry_after.total_seconds() == 2.5


def test_a_long_description_is_cut_and_a_token_in_it_is_masked() -> None:
    text = str(as_sent(BadRequest("12345678:AAbbccddeeffgghhiijjkkllmmnnooppqqrr " + "x" * 900)))
    assert len(text) < 260
    assert "AAbbcc" not in text
