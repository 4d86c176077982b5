"""What KIE's codes and sentences mean: an error class for a call, a failure word for a task. Pure.

Neither half is enough alone. A code 500 at create is KIE's ordinary answer to a wrong parameter as well as real
trouble, an overload has come as 422, and refusals for copyright arrive as failCode 500; so sentences are read first
and codes decide the rest. Sentences are matched as lower-case fragments: KIE varies punctuation and wording.
"""

from __future__ import annotations

from typing import NamedTuple

from kiebot.errors import (
    AccountStopped,
    KiebotError,
    ModelPaused,
    Moderated,
    OutcomeUnknown,
    Permanent,
    RateLimited,
    Transient,
)

RATE_LIMIT_PAUSE_S = 2.0
BUSY_PAUSE_S = 30.0
MAINTENANCE_PAUSE_S = 300.0
SWITCHED_OFF_PAUSE_S = 3600.0

# The order matters: a moderation sentence may speak of "input", a time-out sentence of an "internal error".
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "moderation",
        (
            "violating content policies",
            "content policy",
            "ai moderator",
            "flagged",
            "nsfw",
            "sensitive_word",
            "unsafe image upload",
            "minor upload",
            "prominent people upload",
            "inappropriate content",
            "copyright",
        ),
    ),
    ("input_fetch", ("failed to fetch the", "url is wrong", "could not be fetched", "failed to download")),
    ("capacity", ("limit for concurrent generations", "high demand", "e003", "queue is full")),
    ("timeout", ("timeout", "timed out", "time out")),
    (
        "input",
        (
            "only english prompts",
            "no valid characters detected",
            "cannot be mixed",
            "is required",
            "range of allowed options",
            "within the specified range",
            "exceed the maximum limit",
            "ratio error",
            "must be between",
            "is not supported",
        ),
    ),
    ("server", ("internal error", "server is busy", "server exception", "credits have been refunded")),
)
_CODE_WORDS = {"400": "input", "422": "input", "413": "input", "408": "timeout", "504": "timeout", "451": "input_fetch"}
_CODE_WORDS |= {"429": "capacity", "430": "capacity", "550": "capacity", "500": "unknown"}
_CODE_WORDS |= {"501": "server", "503": "server", "531": "server", "generation_failed": "server"}
_FINAL = frozenset({"moderation", "input"})  # the same input would fail again

_STOPS = {401: ("key_refused", 300.0), 402: ("no_credits", 120.0), 433: ("key_cap", 600.0)}
_INPUT_CODES = frozenset({400, 404, 405, 409, 413, 422})
_NOTHING_MADE_CODES = frozenset({403, 408, 500, 501, 531})  # KIE names no task, so there is none


class Failure(NamedTuple):
    """Why a task failed: a fixed word, and whether a new task with the same input may work."""

    word: str
    retryable: bool


def failure_of(code: object, text: str) -> Failure:
    """Classify a failed task by its sentence, then by its code (a number, text of a number, or a word)."""
    code_text = str(code if code is not None else "").strip().lower()
    word = _word_in(text) or _word_in(code_text) or _CODE_WORDS.get(code_text, "unknown")
    return Failure(word, word not in _FINAL)


def create_error(code: int, text: str, *, retry_after_s: float | None = None) -> KiebotError:
    """The error for an envelope that answers createTask (or another write) with anything but success.

    Args: code, the envelope's; text, its sentence, already free of secrets; retry_after_s, KIE's own wish, if any.
    """
    return (
        _rate_limit(code, text, retry_after_s)
        or account_error(code, text)
        or _pause(code, text)
        or _by_word(code, text, retry_after_s)
        or _by_code(code, text, retry_after_s)
    )


def query_error(code: int, text: str, *, retry_after_s: float | None = None) -> Transient:
    """The error for an envelope that answers a question badly: asking again is free, so never worse than Transient."""
    return (
        _rate_limit(code, text, retry_after_s)
        or account_error(code, text)
        or Transient(_message(code, text), retry_after_s=retry_after_s or 0.0)
    )


def account_error(code: int, text: str) -> AccountStopped | None:
    """Key refused, credits gone, cap reached. Legacy pages say 429 for missing credits, so its text is read too."""
    if code == 429 and "credit" in text.lower():
        code = 402
    if code not in _STOPS:
        return None
    reason, pause_s = _STOPS[code]
    return AccountStopped(_message(code, text), reason=reason, retry_after_s=pause_s)


def _rate_limit(code: int, text: str, retry_after_s: float | None) -> RateLimited | None:
    if code in (429, 430) and "credit" not in text.lower():
        return RateLimited(_message(code, text), retry_after_s=retry_after_s or RATE_LIMIT_PAUSE_S)
    return None


def _pause(code: int, text: str) -> ModelPaused | None:
    if "temporarily paused" in text.lower() or code == 505:
        return ModelPaused(_message(code, text), retry_after_s=SWITCHED_OFF_PAUSE_S)
    if code == 455:
        return ModelPaused(_message(code, text), retry_after_s=MAINTENANCE_PAUSE_S)
    return None


def _by_word(code: int, text: str, retry_after_s: float | None) -> KiebotError | None:
    word = _word_in(text)
    if word == "moderation":
        return Moderated(_message(code, text))
    if word == "capacity" or code == 550:
        return Transient(_message(code, text), retry_after_s=retry_after_s or BUSY_PAUSE_S)
    if "model name you specified" in text.lower():
        return Permanent(_message(code, text), code="unknown_model")
    if word == "input_fetch" or code == 451:
        return Permanent(_message(code, text), code="input_fetch")
    if word == "input" and (code in _INPUT_CODES or code == 500):
        return Permanent(_message(code, text), code="input")
    return None


def _by_code(code: int, text: str, retry_after_s: float | None) -> KiebotError:
    if code in _INPUT_CODES:
        return Permanent(_message(code, text), code="input")
    if code in _NOTHING_MADE_CODES or 300 <= code < 400:
        return Transient(_message(code, text), retry_after_s=retry_after_s or BUSY_PAUSE_S)
    if 400 <= code < 500:
        return Permanent(_message(code, text))
    return OutcomeUnknown(_message(code, text))  # a gateway's code, or one nobody has described


def _word_in(text: str) -> str | None:
    lowered = text.lower()
    return next((word for word, fragments in _WORDS if any(part in lowered for part in fragments)), None)


def _message(code: int, text: str) -> str:
    return f"KIE code {code}: {text}" if text else f"KIE code {code}"
