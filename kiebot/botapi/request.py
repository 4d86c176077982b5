"""HTTP to the Bot API, with exceptions that tell "nothing happened" from "it may have happened"."""

from __future__ import annotations

import json
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx
from telegram.error import InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.request import BaseRequest, HTTPXRequest, RequestData

_NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_UNSAID_RETRY_S = 5.0  # a front end's 429 that names no number


class NotSent(NetworkError):
    """The request never reached the Bot API: nothing happened."""


class NoAnswer(NetworkError):
    """Something answered, but not with the Bot API's word on the request: it may have had its effect."""


class UploadTooLarge(NetworkError):
    """The front end takes no upload of this size (HTTP 413)."""


class FloodWait(RetryAfter):
    """HTTP 429, or our own limiter: again after `seconds`. Spares its readers the base class's change of units."""

    def __init__(self, seconds: float) -> None:
        TelegramError.__init__(self, f"Flood control exceeded. Retry in {seconds:g} seconds")
        self.seconds = seconds

    @property
    def retry_after(self) -> timedelta:
        return timedelta(seconds=self.seconds)


class ApiRequest(HTTPXRequest):
    """HTTPXRequest that never mistakes a front end's page for Telegram's answer.

    A proxy's 403 page read as `Forbidden` would count its user as one who blocked the bot. So only JSON is believed;
    anything else is NotSent (the request was turned away) or NoAnswer (it may have been taken).
    """

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = BaseRequest.DEFAULT_NONE,
        write_timeout: Any = BaseRequest.DEFAULT_NONE,
        connect_timeout: Any = BaseRequest.DEFAULT_NONE,
        pool_timeout: Any = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """Status and body of an answer worth reading. Raises: TimedOut, NetworkError and the classes above."""
        try:
            status, body = await super().do_request(
                url, method, request_data, read_timeout, write_timeout, connect_timeout, pool_timeout
            )
        except NetworkError as error:
            if isinstance(error.__cause__, _NEVER_LEFT):
                raise NotSent(f"no connection ({type(error.__cause__).__name__})") from error
            raise
        if not HTTPStatus.OK <= status <= 299:
            _check_refusal(status, body)
        return status, body

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """Raises: NoAnswer. The body is not logged: it may be anybody's page, or a user's words."""
        answer = _object(payload)
        if answer is None:
            raise NoAnswer("the answer is not a JSON object")
        return answer


def _check_refusal(status: int, body: bytes) -> None:
    """Raise for what the base class would misread; return when the body is Telegram's own refusal."""
    answer = _object(body)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise FloodWait(_retry_after(answer or {}))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise UploadTooLarge("the upload is too large")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NoAnswer(f"HTTP {status}")
    if answer is None or "description" not in answer:
        raise NotSent(f"HTTP {status} from something that is not the Bot API")
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        raise InvalidToken(f"HTTP {status}: this server does not serve the token")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _retry_after(answer: dict[str, Any]) -> float:
    parameters = answer.get("parameters")
    value = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        return _UNSAID_RETRY_S
    return float(value)
