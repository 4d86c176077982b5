"""The ASGI side: from bytes to a call of a bot and back, for clients that may leave at any moment."""

import asyncio
import functools
from collections.abc import Awaitable
from http import HTTPStatus
from typing import TYPE_CHECKING

from kiebot.simulators.server import CUT_EXTENSION, Receive, Scope, Send
from kiebot.simulators.telegram.answers import Answer, ApiError, ConnectionCut, failure, reader_refusal
from kiebot.simulators.telegram.arguments import Arguments, MalformedBody, parse_arguments
from kiebot.simulators.telegram.journal import Call

if TYPE_CHECKING:
    from kiebot.simulators.telegram.bot import Bot
    from kiebot.simulators.telegram.simulator import TelegramSimulator

MAX_HEADER_BYTES = 256 * 1024
_FORM_ALLOWANCE_BYTES = 2 * 1024 * 1024
_MAX_TOKEN = 80
_KEEP_ALIVE = (b"connection", b"keep-alive")


class ClientLeft(Exception):
    """The client closed its connection before its request was complete."""


class UploadTooLarge(Exception):
    """The hosted front end takes no body of this size; it was read to its end and dropped."""


class Surface:
    """The ASGI program of a simulator."""

    def __init__(self, simulator: "TelegramSimulator") -> None:
        self._simulator = simulator
        self._world = simulator.world
        self._waiting: set[asyncio.Future[Answer]] = set()

    def cut_waiting(self) -> None:
        """Break the connections of all requests that wait for something."""
        for waiting in list(self._waiting):
            waiting.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except ConnectionCut:
                await _cut(scope)
            except ClientLeft:
                return
            else:
                await _respond(answer, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"]
        if self._simulator.control is not None and path.startswith("/_sim/"):
            return await self._simulator.control.answer(scope, await _read_body(scope, receive, 1 << 28))
        if scope["method"] not in ("GET", "POST"):
            return reader_refusal(HTTPStatus.NOT_IMPLEMENTED)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return reader_refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if path.startswith("/file/bot"):
            return self._download(scope, path)
        token, slash, method = path.removeprefix("/bot").partition("/")
        if not path.startswith("/bot") or not slash:
            return failure(ApiError(404, "Not Found"))
        return await self._call(scope, receive, token, method)

    async def _call(self, scope: Scope, receive: Receive, token: str, method: str) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = _client(scope)
        limit = self._world.rules.max_upload_bytes
        try:
            body = await _read_body(scope, receive, limit + _FORM_ALLOWANCE_BYTES)
            arguments = parse_arguments(scope["query_string"], headers.get("content-type", ""), body)
            refusal = _too_large(arguments, limit)
        except MalformedBody as error:
            arguments = Arguments()
            refusal = reader_refusal(error.status)
        except UploadTooLarge:
            arguments, refusal = Arguments(), _upload_refusal()
        except ClientLeft:
            self._note_cut_upload(token, method, client, headers)
            raise
        method = method or arguments.text("method")
        bot = self._bot(token)
        bot_id = None if isinstance(bot, ApiError) else bot.bot_id
        call = self._world.journal.begin(bot_id, method, arguments, client, headers)
        if isinstance(bot, ApiError):
            refusal = failure(bot)
        elif refusal is None:
            reply = bot.answer(call, arguments)
            if not isinstance(reply, Answer):
                return await self._wait(call, reply, receive)
            refusal = reply
        self._world.journal.end(call, refusal)
        return refusal

    def _note_cut_upload(self, token: str, method: str, client: str, headers: dict[str, str]) -> None:
        """A body that never ended has no effect, but the journal shows the attempt."""
        bot = self._bot(token)
        bot_id = None if isinstance(bot, ApiError) else bot.bot_id
        call = self._world.journal.begin(bot_id, method, Arguments(), client, headers)
        self._world.journal.disconnected(call)
        self._world.journal.end(call, None)

    def _bot(self, token: str) -> "Bot | ApiError":
        bot = self._simulator.by_token.get(token)
        if bot is not None:
            return bot
        malformed = ApiError(401, "Unauthorized: invalid token specified")
        if self._world.rules.malformed_token_is_404:
            malformed = ApiError(404, "Not Found")
        number, colon, _ = token.partition(":")
        is_number = number.isascii() and number.isdigit() and not number.startswith("0")
        if len(token.encode()) > _MAX_TOKEN or not colon or not is_number:
            return malformed
        return ApiError(401, "Unauthorized")

    async def _wait(self, call: Call, reply: Awaitable[Answer], receive: Receive) -> Answer:
        """Wait for an answer that goes on without its client: a disconnect is noted and changes nothing."""
        waiting = reply if isinstance(reply, asyncio.Future) else self._world.tasks.spawn(_as_coroutine(reply))
        waiting.add_done_callback(functools.partial(self._ended, call))
        self._waiting.add(waiting)
        watcher = asyncio.get_running_loop().create_task(self._watch(call, receive))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if waiting.cancelled():
                raise ConnectionCut from None
            self._world.journal.disconnected(call)  # an in-process client gave up: it cancels us instead of a socket
            raise
        finally:
            watcher.cancel()

    def _ended(self, call: Call, waiting: asyncio.Future[Answer]) -> None:
        self._waiting.discard(waiting)
        is_cut = waiting.cancelled() or waiting.exception() is not None
        self._world.journal.end(call, None if is_cut else waiting.result())

    async def _watch(self, call: Call, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._world.journal.disconnected(call)

    def _download(self, scope: Scope, path: str) -> Answer:
        token, _, file_path = path.removeprefix("/file/bot").partition("/")
        bot = self._bot(token)
        arguments = Arguments({"file_path": file_path})
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        bot_id = None if isinstance(bot, ApiError) else bot.bot_id
        call = self._world.journal.begin(bot_id, "file", arguments, _client(scope), headers)
        answer = failure(bot) if isinstance(bot, ApiError) else _file_answer(bot, file_path)
        self._world.journal.end(call, answer)
        return answer


_TOO_LARGE = int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _too_large(arguments: Arguments, limit: int) -> Answer | None:
    if sum(len(upload.data) for upload in arguments.files.values()) > limit:
        return _upload_refusal()
    return None


def _upload_refusal() -> Answer:
    return failure(ApiError(_TOO_LARGE, "Request Entity Too Large"))


def _file_answer(bot: "Bot", path: str) -> Answer:
    file = None if bot.session.is_revoked else bot.files.download(path)
    if file is None:
        return failure(ApiError(404, "Not Found"))
    return Answer(200, file.content.data, content_type=b"application/octet-stream")


async def _as_coroutine(reply: Awaitable[Answer]) -> Answer:
    return await reply


def _client(scope: Scope) -> str:
    host, port = scope.get("client") or ("unknown", 0)
    return f"{host}:{port}"


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Raises: ClientLeft, UploadTooLarge."""
    names = {name for name, _ in scope["headers"]}
    if scope["method"] == "GET" and b"content-length" not in names and b"transfer-encoding" not in names:
        return b""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        if not message.get("more_body"):
            break
    if size > limit:
        raise UploadTooLarge
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _respond(answer: Answer, send: Send) -> None:
    headers = [(b"content-length", str(len(answer.body)).encode())]
    if answer.body:
        headers.append((b"content-type", answer.content_type))
    headers.append((b"connection", b"close") if answer.closes else _KEEP_ALIVE)
    if answer.retry_after is not None:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _cut(scope: Scope) -> None:
    """Break the connection. Raises: ConnectionResetError, where the server offers no way to do so (in-process)."""
    cut = scope.get("extensions", {}).get(CUT_EXTENSION)
    if cut is None:
        raise ConnectionResetError("the simulator cut this connection")
    cut(scope["client"])
    await asyncio.sleep(0)  # the server notices the loss before the request ends without an answer


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
