"""What the service says when it refuses or a task fails. Classes are ours; the service sends only the texts."""

from dataclasses import dataclass
from typing import Literal

FailureClass = Literal[
    "moderation_prompt",
    "moderation_media",
    "rights",
    "input_fetch",
    "input_semantics",
    "server",
    "timeout",
    "capacity",
    "refunded",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed. `code` is a number in a string, `word` what some models send in its place."""

    text: str
    code: str = "500"
    word: str = "GENERATION_FAILED"

    def code_as(self, form: Literal["string", "int", "word"]) -> str | int:
        """The failCode in one of the three forms met."""
        if form == "int":
            return int(self.code)
        return self.word if form == "word" else self.code


FAILURES: dict[FailureClass, tuple[Failure, ...]] = {
    "moderation_prompt": (
        Failure("Your prompt was flagged by Website as violating content policies.", "400", "SENSITIVE_WORD_ERROR"),
        Failure(
            "Your prompt was caught by our AI moderator. Please adjust it and try again!", "500", "SENSITIVE_WORD_ERROR"
        ),
        Failure("The input or output was flagged as sensitive. Please try again with different inputs.", "500"),
        Failure("Content was flagged by the safety system.", "500"),
        Failure("nsfw", "500"),
        Failure("Song Description flagged for moderation", "400", "SENSITIVE_WORD_ERROR"),
    ),
    "moderation_media": (
        Failure("public error unsafe image upload", "400"),
        Failure("public error minor upload", "400"),
        Failure("public error prominent people upload", "400"),
        Failure("Inappropriate content detected. Please replace the image or video.", "500"),
        Failure("Request blocked: The uploaded audio was flagged by Google safety review.", "500"),
    ),
    "rights": (
        Failure("the output video may be related to copyright restrictions", "500"),
        Failure("Lyrics contained copyrighted material", "400"),
    ),
    "input_fetch": (
        Failure(
            "Failed to fetch the image. Kindly verify any access limits set by you or your service provider.", "500"
        ),
    ),
    "input_semantics": (
        Failure("Only English prompts are supported at this time.", "400"),
        Failure("No valid characters detected in the video", "400"),
        Failure("first/last frame content cannot be mixed with reference media content", "500"),
    ),
    "server": (
        Failure("Internal Error, Please try again later.", "500"),
        Failure("internal error, please try again later.", "500"),
        Failure("the server is busy", "501"),
    ),
    "timeout": (Failure("Internal Error - Timeout", "501"), Failure("timed out", "408")),
    "capacity": (
        Failure("Reached the limit for concurrent generations.", "500"),
        Failure("Service is currently unavailable due to high demand. Please try again later. (E003)", "500"),
    ),
    "refunded": (Failure("Sorry, the generation failed due to an issue. Your credits have been refunded", "531"),),
}

CODE_TEXTS: dict[int, str] = {
    400: "taskId parameter is required",
    401: "Unauthorized – Authentication failed. Please check that your Authorization and Content-Type headers are "
    "correctly set.",
    402: "The current credits are insufficient. Please top up.",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    422: "The model name you specified is not supported. Please verify your input and use one of the supported models "
    "provided by KIE.",
    429: "Your call frequency is too high. Please try again later.",
    433: "The usage of this API key has reached its limit.",
    451: FAILURES["input_fetch"][0].text,
    455: "The service is under maintenance. Please try again later.",
    500: "Server exception, please try again later",
    501: "Generation failed",
    505: "This feature is currently disabled.",
    550: "Connection denied: the job queue is full.",
}


def failure_named(name: str) -> Failure:
    """The first failure of a class, when `name` is one; else the one with that very text, or a fault that says it."""
    for each, failures in FAILURES.items():
        if each == name:
            return failures[0]
    return next((known for failures in FAILURES.values() for known in failures if known.text == name), Failure(name))
