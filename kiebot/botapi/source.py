"""getUpdates: each update's JSON untouched, each failure as what the poller does next."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import msgspec

from kiebot.botapi.connection import TELEGRAM_API_URL, make_request
from kiebot.botapi.errors import asking
from kiebot.botapi.updates import ALLOWED_UPDATES, UpdateReader, lenient_object
from kiebot.intake.ports import RawUpdate

_POOL_SIZE = 2  # one poll, and the one before it while its connection is being given up
_MARGIN_S = 10.0  # Telegram holds back some answers by three seconds


class _Answer(msgspec.Struct):
    result: list[msgspec.Raw]


_answers = msgspec.json.Decoder(_Answer)


class TelegramSource:
    """Long polls on connections of their own. Close it with `aclose`.

    The bytes are read, not `Bot.get_updates`: that parses every update, fails as a whole on one it does not understand,
    and keeps no original.

    Args: is_urgent, whether a press with this data may overtake; allowed_updates, sent with every poll because Telegram
        keeps what anybody asked last; margin_s, how much longer than the poll we wait for its answer.
    """

    def __init__(
        self,
        token: str,
        is_urgent: Callable[[str], bool],
        *,
        api_url: str = TELEGRAM_API_URL,
        replica: str = "",
        allowed_updates: Sequence[str] = ALLOWED_UPDATES,
        margin_s: float = _MARGIN_S,
    ) -> None:
        self._url = f"{api_url}/bot{token}/getUpdates"
        self._allowed = json.dumps(list(allowed_updates))
        self._margin_s = margin_s
        self._reader = UpdateReader(is_urgent)
        self._request = make_request(replica=replica, pool_size=_POOL_SIZE, is_waiting=True)

    async def fetch(self, offset: int, *, timeout_s: int, limit: int = 100) -> list[RawUpdate]:
        """One poll. Confirms everything below `offset`. Cancelling it closes its connection.

        Raises: Conflict, RateLimited, Permanent (the token is refused), Transient (anything else).
        """
        query = {"offset": offset, "timeout": timeout_s, "limit": limit, "allowed_updates": self._allowed}
        with asking("getUpdates"):
            body = await self._request.retrieve(
                f"{self._url}?{urlencode(query)}", read_timeout=timeout_s + self._margin_s
            )
            return [self._reader.read(payload) for payload in _payloads(body)]

    async def aclose(self) -> None:
        await self._request.shutdown()


def _payloads(body: bytes) -> list[bytes]:
    """Each update's own bytes; written anew only when the answer holds broken characters."""
    try:
        return [bytes(raw) for raw in _answers.decode(body).result]
    except ValueError:
        return [json.dumps(update).encode() for update in lenient_object(body)["result"]]
