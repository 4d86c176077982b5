"""The envelope: what goes back on the wire, and the error that a method raises to get there."""

from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

Json = dict[str, Any]

encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """A refusal. Its code is both the HTTP status and `error_code`; its description is a wire fact, byte for byte."""

    def __init__(self, code: int, description: str, parameters: dict[str, int] | None = None) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.parameters = parameters


class ConnectionCut(Exception):
    """The request ends without any answer: its connection is to be broken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `retry_after` (seconds) becomes a header; `closes` ends the connection after it."""

    status: int
    body: bytes
    description: str = ""
    retry_after: int | None = None
    closes: bool = False
    content_type: bytes = b"application/json"


def success(result: Any, description: str = "") -> Answer:
    return success_raw(encode(result), description)


def success_raw(result: bytes, description: str = "") -> Answer:
    """As `success`, for a result that is JSON text already."""
    if not description:
        return Answer(200, b'{"ok":true,"result":' + result + b"}")
    tail = b',"description":' + encode(description) + b"}"
    return Answer(200, b'{"ok":true,"result":' + result + tail, description)


def failure(error: ApiError) -> Answer:
    body: Json = {"ok": False, "error_code": error.code, "description": error.description}
    if error.parameters:
        body["parameters"] = error.parameters
    retry_after = error.parameters.get("retry_after") if error.parameters else None
    return Answer(error.code, encode(body), error.description, retry_after)


def reader_refusal(status: int) -> Answer:
    """What the HTTP reader itself refuses: an empty body, and the connection ends."""
    return Answer(status, b"", closes=True)


def bad_request(text: str) -> ApiError:
    return ApiError(400, f"Bad Request: {text}")


def forbidden(text: str) -> ApiError:
    return ApiError(403, f"Forbidden: {text}")


def conflict(text: str) -> ApiError:
    return ApiError(409, f"Conflict: {text}")


def too_many_requests(retry_after: int) -> ApiError:
    """Args: retry_after, seconds; at least 1 goes out."""
    seconds = max(1, retry_after)
    return ApiError(429, f"Too Many Requests: retry after {seconds}", {"retry_after": seconds})


def refuse(text: str) -> NoReturn:
    """Raises: ApiError 400 with that text."""
    raise bad_request(text)
