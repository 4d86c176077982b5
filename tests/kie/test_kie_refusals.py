"""KIE's codes and sentences, and what is made of them: error classes for calls, words for failed tasks."""

from __future__ import annotations

import pytest

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
from kiebot.kie.refusals import create_error, failure_of


@pytest.mark.parametrize(
    ("code", "text", "word", "retryable"),
    [
        ("400", "Your prompt was flagged by Website as violating content policies.", "moderation", False),
        ("500", "Your prompt was caught by our AI moderator. Please adjust it and try again!", "moderation", False),
        ("500", "Content was flagged by the safety system. Try another.", "moderation", False),
        ("500", "The input or output was flagged as sensitive. Please try again.", "moderation", False),
        ("500", "nsfw", "moderation", False),
        ("SENSITIVE_WORD_ERROR", "", "moderation", False),
        (None, "SENSITIVE_WORD_ERROR", "moderation", False),
        ("500", "Song Description flagged for moderation", "moderation", False),
        ("500", "public error unsafe image upload", "moderation", False),
        ("500", "public error minor upload", "moderation", False),
        ("500", "public error prominent people upload", "moderation", False),
        ("500", "Inappropriate content detected. Please replace the image or video.", "moderation", False),
        ("500", "Request blocked: The uploaded audio was flagged by Google safety review.", "moderation", False),
        ("500", "the output video may be related to copyright restrictions", "moderation", False),
        ("500", "Lyrics contained copyrighted material", "moderation", False),
        ("500", "Failed to fetch the image. Kindly verify any access limits set by you.", "input_fetch", True),
        ("451", "", "input_fetch", True),
        ("500", "Only English prompts are supported at this time.", "input", False),
        (400, "No valid characters detected in the video", "input", False),
        ("500", "first/last frame content cannot be mixed with reference media content", "input", False),
        ("422", "something about the request", "input", False),
        ("500", "Internal Error, Please try again later.", "server", True),
        (500, "the server is busy", "server", True),
        ("GENERATION_FAILED", "", "server", True),
        ("531", "Sorry, the generation failed due to an issue. Your credits have been refunded", "server", True),
        ("500", "Internal Error - Timeout", "timeout", True),
        ("500", "The request timed out", "timeout", True),
        (408, "", "timeout", True),
        ("500", "Reached the limit for concurrent generations.", "capacity", True),
        ("422", "Service is currently unavailable due to high demand. (E003)", "capacity", True),
        ("500", "A sentence nobody has met before", "unknown", True),
        (None, "", "unknown", True),
    ],
)
def test_a_failed_task_is_classed_by_its_sentence_then_by_its_code(
    code: object, text: str, word: str, retryable: bool
) -> None:
    assert failure_of(code, text) == (word, retryable)


@pytest.mark.parametrize(
    ("code", "text", "expected", "detail"),
    [
        (400, "taskId parameter is required", Permanent, "input"),
        (400, "nsfw", Moderated, "moderation"),
        (401, "You do not have access permissions", AccountStopped, "key_refused"),
        (402, "Credits insufficient", AccountStopped, "no_credits"),
        (429, "The current credits are insufficient. Please top up.", AccountStopped, "no_credits"),
        (433, "", AccountStopped, "key_cap"),
        (403, "", Transient, None),
        (404, "", Permanent, "input"),
        (409, "", Permanent, "input"),
        (418, "", Permanent, "provider_refused"),
        (422, "url is wrong", Permanent, "input_fetch"),
        (422, "Ratio error", Permanent, "input"),
        (422, "The model name you specified is not supported. Please verify your input.", Permanent, "unknown_model"),
        (422, "Service is currently unavailable due to high demand. Please try again later. (E003)", Transient, None),
        (429, "Your call frequency is too high. Please try again later.", RateLimited, None),
        (430, "", RateLimited, None),
        (451, "", Permanent, "input_fetch"),
        (455, "", ModelPaused, None),
        (500, "This field is required", Permanent, "input"),
        (500, "duration is not within the range of allowed options", Permanent, "input"),
        (500, "Value must be within the specified range", Permanent, "input"),
        (500, "The text length cannot exceed the maximum limit", Permanent, "input"),
        (500, "This interface is temporarily paused.", ModelPaused, None),
        (500, "Server exception, please try again later or contact customer service", Transient, None),
        (500, "Reached the limit for concurrent generations.", Transient, None),
        (505, "", ModelPaused, None),
        (531, "Your credits have been refunded", Transient, None),
        (550, "", Transient, None),
        (502, "", OutcomeUnknown, None),
        (503, "", OutcomeUnknown, None),
        (524, "", OutcomeUnknown, None),
        (0, "", OutcomeUnknown, None),
        (999, "", OutcomeUnknown, None),
    ],
)
def test_a_refused_create_says_what_to_do_next(
    code: int, text: str, expected: type[KiebotError], detail: str | None
) -> None:
    error = create_error(code, text)
    assert type(error) is expected
    assert getattr(error, "reason", getattr(error, "code", None)) == detail
