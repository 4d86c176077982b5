"""python-telegram-bot's exceptions -> what the caller does next. The only place that reads Telegram's sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from telegram.error import BadRequest, Forbidden, InvalidToken, RetryAfter, TelegramError
from telegram.error import ChatMigrated as PtbChatMigrated
from telegram.error import Conflict as PtbConflict

from kiebot.botapi.connection import without_token
from kiebot.botapi.request import FloodWait, NotSent, UploadTooLarge
from kiebot.delivery.ports import ChatGone, ChatMigrated, MediaRefused, MessageGone
from kiebot.errors import AccountStopped, KiebotError, OutcomeUnknown, Permanent, RateLimited, Transient
from kiebot.intake.ports import Conflict
from kiebot.observe.metrics import METRICS

_TOKEN_RETRY_S = 60.0

NOT_MODIFIED = "message is not modified"
DELETE_NOT_FOUND = "message to delete not found"

_MESSAGE_GONE = (
    "message to edit not found",
    "message can't be edited",
    "there is no text in the message to edit",
    "message can't be deleted",
    DELETE_NOT_FOUND,
    "message_id_invalid",
)
_CHAT_GONE = (
    "chat not found",
    "peer_id_invalid",
    "user not found",
    "group chat was deactivated",
    "group chat was upgraded to a supergroup chat",
    "chat_write_forbidden",
    "chat_restricted",
    "have no rights to send a message",
    "need administrator rights in the channel chat",
    "not enough rights to send text messages",
)
_MEDIA_REFUSED = (
    "photo_",  # PHOTO_INVALID_DIMENSIONS, PHOTO_EXT_INVALID, PHOTO_SAVE_FILE_INVALID …
    "video_",
    "audio_",
    "document_invalid",
    "media_empty",
    "media_invalid",
    "image_process_failed",
    "too big for a photo",
    "file is too big",
    "file must be non-empty",
    "wrong file identifier",
    "wrong remote file identifier",
    "can't use file of type",
    "type of file mismatch",
    "can't be mixed with other media types",
    "wrong type of the web page content",
    "failed to get http url content",
    "wrong http url specified",
    "not enough rights to send",  # photos, videos, music, documents: text was looked for above
    "failed to send message #",  # one part of an album
    "group send failed",
)
_STOPPED = ("logged out", "the bot has already been closed")
_CODES = {
    "message is too long": "too_long",
    "message caption is too long": "too_long",
    "message text is empty": "empty",
    "text must be non-empty": "empty",
    "button_": "bad_keyboard",
    "reply markup": "bad_keyboard",
}
_FORBIDDEN_CODES = {
    "blocked by the user": "blocked",
    "user is deactivated": "deactivated",
    "can't initiate conversation": "never_started",
    "kicked from": "removed",
    "not a member": "removed",
}


@contextmanager
def sending(what: str) -> Iterator[None]:
    """Translate for calls that change something: an answer that did not come leaves the outcome unknown."""
    try:
        with METRICS.telegram_call(what):
            yield
    except KiebotError:
        raise
    except TelegramError as error:
        raise _sending_error(what, error) from error
    except Exception as error:  # the answer came and made no sense: the call may well have worked
        raise OutcomeUnknown(f"{what}: unreadable answer ({type(error).__name__})") from error


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Translate for calls that may be repeated at will, as UpdateSource promises: Conflict, RateLimited, Transient,
    Permanent."""
    try:
        yield
    except (KiebotError, Conflict):
        raise
    except TelegramError as error:
        raise _asking_error(what, error) from error
    except Exception as error:
        raise Transient(f"{what}: unreadable answer ({type(error).__name__})") from error


def description(error: Exception) -> str:
    """Telegram's sentence in lower case, which is how this module's constants are written."""
    return str(error).lower()


def _sending_error(what: str, error: TelegramError) -> KiebotError:
    match error:
        case RetryAfter():
            METRICS.telegram_retry_after_seconds.inc(wait_s(error))
            return RateLimited(f"{what}: {_text(error)}", retry_after_s=wait_s(error))
        case PtbChatMigrated():
            return ChatMigrated(error.new_chat_id)
        case Forbidden():
            return ChatGone(f"{what}: {_text(error)}", code=_code(error, _FORBIDDEN_CODES, "chat_gone"))
        case InvalidToken():
            return stopped(what)
        case BadRequest():
            return _bad_request(what, error)
        case UploadTooLarge():
            return MediaRefused(f"{what}: {_text(error)}", code="too_large")
        case NotSent() | PtbConflict():
            return Transient(f"{what}: {_text(error)}")
        case _:
            return OutcomeUnknown(f"{what}: {_text(error)}")


def _asking_error(what: str, error: TelegramError) -> KiebotError | Conflict:
    match error:
        case PtbConflict():
            return Conflict(_text(error))
        case RetryAfter():
            return RateLimited(f"{what}: {_text(error)}", retry_after_s=wait_s(error))
        case InvalidToken() | Forbidden():
            return Permanent(f"{what}: Telegram refuses the bot token", code="token_refused")
        case BadRequest():
            code = "token_refused" if _has(error, _STOPPED) else "telegram_refused"
            return Permanent(f"{what}: {_text(error)}", code=code)
        case _:
            return Transient(f"{what}: {_text(error)}")


def _bad_request(what: str, error: BadRequest) -> KiebotError:
    text = f"{what}: {_text(error)}"
    if _has(error, _STOPPED):
        return stopped(what)
    if _has(error, _MESSAGE_GONE):
        return MessageGone(text, code="message_gone")
    if _has(error, _CHAT_GONE):
        return ChatGone(text)
    if _has(error, _MEDIA_REFUSED):
        return MediaRefused(text, code="media_refused")
    return Permanent(text, code=_code(error, _CODES, "telegram_refused"))


def stopped(what: str) -> AccountStopped:
    """A revoked token must not bury what waits to be sent: it can go out when the operator has put in the new one."""
    return AccountStopped(f"{what}: Telegram refuses the bot token", reason="token", retry_after_s=_TOKEN_RETRY_S)


def wait_s(error: RetryAfter) -> float:
    """Seconds that Telegram, or the limiter, asked to wait."""
    if isinstance(error, FloodWait):
        return error.seconds
    value = error.retry_after
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _has(error: Exception, sentences: tuple[str, ...]) -> bool:
    text = description(error)
    return any(sentence in text for sentence in sentences)


def _code(error: Exception, codes: dict[str, str], otherwise: str) -> str:
    text = description(error)
    return next((code for sentence, code in codes.items() if sentence in text), otherwise)


def _text(error: Exception) -> str:
    return without_token(str(error))[:200] or type(error).__name__
