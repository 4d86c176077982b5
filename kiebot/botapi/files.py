"""What users sent to the bot, as a stream of bytes.

The download address holds the bot's token. It is made here, used here, and is in no error and no log: whoever needs the
file gets bytes. They are streamed, since twenty megabytes for each of many jobs would not fit into a small replica.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from http import HTTPStatus

import httpx
from telegram import Bot
from telegram.error import BadRequest, InvalidToken

from kiebot.botapi.connection import hide_tokens, trusted_roots
from kiebot.botapi.errors import asking, description, stopped
from kiebot.errors import Permanent, Transient
from kiebot.generation.ports import UserFile

MAX_BYTES = 20 * 1024 * 1024
"""What the hosted Bot API hands out."""

_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
_CHUNK_BYTES = 64 * 1024


class TelegramFiles:
    """UserFiles over getFile. Close it with `aclose`. `max_bytes`: more, when an own Bot API server allows it."""

    def __init__(self, bot: Bot, *, max_bytes: int = MAX_BYTES) -> None:
        hide_tokens()
        self._bot = bot
        self._max_bytes = max_bytes
        self._http = httpx.AsyncClient(verify=trusted_roots(), timeout=_TIMEOUT, follow_redirects=False)

    @asynccontextmanager
    async def open(self, file: UserFile) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes, in order and once. They fail as `open` does.

        Raises: Permanent with code file_too_big or file_gone; Transient, AccountStopped (the token is refused).
        """
        if file.size_bytes is not None and file.size_bytes > self._max_bytes:
            raise _too_big()
        address = await self._address(file)
        async with AsyncExitStack() as stack:
            with _reading():
                response = await stack.enter_async_context(self._http.stream("GET", address))
            _check(response.status_code)
            yield await stack.enter_async_context(aclosing(self._chunks(response)))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _address(self, file: UserFile) -> str:
        with asking("getFile"):
            try:
                found = await self._bot.get_file(file.file_id)
            except InvalidToken as error:
                raise stopped("getFile") from error
            except BadRequest as error:
                raise _too_big() if "too big" in description(error) else _gone() from error
        address = found.file_path or ""
        if not address.startswith(("http://", "https://")):
            raise _gone()  # no path, or one on the disk of a Bot API server in local mode
        return address

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        size = 0
        with _reading():
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                size += len(chunk)
                if size > self._max_bytes:
                    raise _too_big()
                yield chunk


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:  # their texts name no address
        raise Transient(f"the file could not be read ({type(error).__name__})") from error


def _check(status: int) -> None:
    match status:
        case HTTPStatus.OK:
            return
        case HTTPStatus.UNAUTHORIZED:
            raise stopped("file download")
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            raise _gone()
    raise Transient(f"the file could not be read (HTTP {status})")


def _too_big() -> Permanent:
    return Permanent("the file is larger than bots may download", code="file_too_big")


def _gone() -> Permanent:
    return Permanent("Telegram does not have the file any more", code="file_gone")
