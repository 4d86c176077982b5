"""One bot on the server: its queue, chats, files and Stars, and the way a request takes through it."""

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

from kiebot.simulators.telegram import callbacks, editing, media, payments, profile, sending
from kiebot.simulators.telegram.answers import Answer, ApiError, Json, failure, success
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.callbacks import PressBook
from kiebot.simulators.telegram.files import FileStore
from kiebot.simulators.telegram.flood import FloodControl, FloodRefusal
from kiebot.simulators.telegram.journal import Call
from kiebot.simulators.telegram.messages import Chat, ChatBook
from kiebot.simulators.telegram.payments import Till
from kiebot.simulators.telegram.polling import PollDesk
from kiebot.simulators.telegram.queue import Purge, UpdateQueue
from kiebot.simulators.telegram.request import Handler, Request
from kiebot.simulators.telegram.session import Session
from kiebot.simulators.telegram.subscriptions import Subscription
from kiebot.simulators.telegram.webhook import WebhookDesk
from kiebot.simulators.telegram.world import World

Reply = Answer | Awaitable[Answer]


def _log_out(request: Request) -> bool:
    bot = request.bot
    bot.webhook.stop()
    bot.polls.release()
    bot.queue.clear("logged_out")
    bot.session.log_out()
    return True


def _close(request: Request) -> bool:
    request.bot.session.close()
    request.bot.polls.release()
    return True


_OWN: dict[str, Handler] = {
    "setwebhook": lambda request: request.bot.webhook.set(request.arguments),
    "deletewebhook": lambda request: request.bot.webhook.delete(request.arguments),
    "getwebhookinfo": lambda request: request.bot.webhook.info(),
    "logout": _log_out,
    "close": _close,
}
METHODS: dict[str, Handler] = {
    **sending.METHODS,
    **media.METHODS,
    **editing.METHODS,
    **callbacks.METHODS,
    **payments.METHODS,
    **profile.METHODS,
    **_OWN,
}
"""Every method but getUpdates, by its name in lower case."""


class Bot:
    """State and behaviour of one bot. `answer` is the whole way of a request."""

    def __init__(self, bot_id: int, secret: str, username: str, world: World) -> None:
        self.bot_id = bot_id
        self.secret = secret
        self.username = username
        self.world = world
        rng = random.Random(world.rng.getrandbits(64))
        self.user: Json = {"id": bot_id, "is_bot": True, "first_name": username, "username": username}
        self.queue = UpdateQueue(world.clock, rng, world.journal.purged)
        self.subscription = Subscription()
        self.polls = PollDesk(world, self.queue, self.subscription)
        self.webhook: WebhookDesk = WebhookDesk(self)
        self.chats = ChatBook(world.rules.keep_messages_per_chat)
        self.files = FileStore(bot_id, world.rules, rng)
        self.flood = FloodControl(world.clock, world.rules.flood)
        self.presses = PressBook()
        self.till = Till()
        self.session = Session(world.clock)
        self.settings: dict[str, Any] = {}
        self.stored_count = 0

    @property
    def token(self) -> str:
        return f"{self.bot_id}:{self.secret}"

    # updates

    def emit(self, kind: str, payload: Json, lane: str) -> int | None:
        """Store an update and wake whoever waits for it. None: not subscribed to, too old, or no room."""
        if not self.subscription.allows(kind):
            self.world.journal.purged(Purge(self.world.clock.now(), "not_allowed", kind, None))
            return None
        update = self.queue.store(kind, payload, lane)
        if update is None:
            return None
        self.stored_count += 1
        self.polls.updates_stored()
        self.webhook.updates_stored()
        return update.update_id

    # operators' acts

    def revoke(self) -> None:
        """The token stops working, on every method; the queue is kept."""
        self.session.is_revoked = True

    def restore(self) -> None:
        """The token works again."""
        self.session.is_revoked = False

    def restart(self, *, cuts: bool) -> None:
        """The server restarts: queue, webhook and subscription are kept, parked requests end."""
        self.polls.restart(cuts=cuts)
        self.session.start(self.world.rules.login_s)

    # requests

    def answer(self, call: Call, arguments: Arguments) -> Reply:
        """Answer now, or give something to wait for. Never raises; waiting may raise ConnectionCut."""
        if self.session.login_left_s > 0:
            return self._answer_after_login(call, arguments)
        if self.world.faults:
            fault = self.world.faults.take(call)
            if fault is not None:
                return self.world.faults.play(fault, call, lambda: _awaited(self._perform(call, arguments)))
        return self._perform(call, arguments)

    async def _answer_after_login(self, call: Call, arguments: Arguments) -> Answer:
        await self.world.clock.sleep(self.session.login_left_s)
        return await _awaited(self._perform(call, arguments))

    def execute(self, method: str, arguments: Arguments) -> None:
        """Run a method whose result nobody sees: a webhook's reply."""
        journal = self.world.journal
        call = journal.begin(self.bot_id, method, arguments, "webhook-reply", {})

        async def run() -> None:
            journal.end(call, await _awaited(self._perform(call, arguments)))

        self.world.tasks.spawn(run())

    def _perform(self, call: Call, arguments: Arguments) -> Reply:
        method = call.method.lower()
        refusal = self.session.refusal(method)
        if refusal is not None:
            return failure(refusal)
        if method == "getupdates":
            return self.polls.get_updates(call, arguments)
        handler = METHODS.get(method)
        if handler is None:
            return failure(ApiError(404, "Not Found: method not found"))
        return self._dispatch(handler, method, Request(self, call, arguments))

    def _dispatch(self, handler: Handler, method: str, request: Request) -> Reply:
        wait = 0.0
        urls = media.urls_in(request) if method in media.TAKES_URLS else []
        try:
            if self.flood.counts(method):
                chat = request.chat()
                wait = max(self._admit(request, chat, method), self._space(request))
                if wait:
                    return self._hold(handler, request, chat, wait, urls)
        except ApiError as error:
            return failure(error)
        except FloodRefusal as refusal:
            return self._refuse_late(refusal) if refusal.delay_s else failure(refusal.error)
        return self._fetch(handler, request, urls) if urls else _run(handler, request)

    def _admit(self, request: Request, chat: Chat, method: str) -> float:
        count = 1
        if method == "sendmediagroup":
            items = request.arguments.json("media")
            count = len(items) if isinstance(items, list) and items else 1
        is_paid = request.arguments.boolean("allow_paid_broadcast")
        if is_paid and self.flood.is_over_free_rate():
            is_paid = self.till.pay_for_broadcast(count)
        return self.flood.admit(request.call, chat.chat_id, is_group=chat.is_group, count=count, is_paid=is_paid)

    def _space(self, request: Request) -> float:
        size = sum(len(upload.data) for upload in request.arguments.files.values())
        return self.flood.space_upload(size) if size else 0.0

    async def _hold(self, handler: Handler, request: Request, chat: Chat, wait: float, urls: list[str]) -> Answer:
        """The server waits inside the request, and acts when the wait is over, client or no client."""
        self.flood.holding(chat.chat_id, 1)
        try:
            await self.world.clock.sleep(wait)
        finally:
            self.flood.holding(chat.chat_id, -1)
        return await self._fetch(handler, request, urls)

    async def _fetch(self, handler: Handler, request: Request, urls: list[str]) -> Answer:
        for url in urls:
            request.urls[url] = await self.world.fetch(url)
        return await _awaited(_run(handler, request))

    async def _refuse_late(self, refusal: FloodRefusal) -> Answer:
        await self.world.clock.sleep(refusal.delay_s)
        return failure(refusal.error)


def _run(handler: Handler, request: Request) -> Reply:
    try:
        result = handler(request)
    except ApiError as error:
        return failure(error)
    return result if isinstance(result, (Answer, asyncio.Future)) else success(result)


async def _awaited(reply: Reply) -> Answer:
    return reply if isinstance(reply, Answer) else await reply
