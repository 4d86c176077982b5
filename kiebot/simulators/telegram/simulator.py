"""The simulator itself: bots, people, scripting, and the ASGI program that serves them."""

import random
import string
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import httpx

from kiebot.simulators import users
from kiebot.simulators.clock import RealClock, SimClock
from kiebot.simulators.server import Receive, Scope, Send
from kiebot.simulators.telegram.answers import Json
from kiebot.simulators.telegram.bot import Bot
from kiebot.simulators.telegram.control import Control
from kiebot.simulators.telegram.faults import Faults
from kiebot.simulators.telegram.journal import Journal
from kiebot.simulators.telegram.messages import ChatKind
from kiebot.simulators.telegram.rules import Rules
from kiebot.simulators.telegram.surface import Surface
from kiebot.simulators.telegram.world import UrlFetcher, World

_SECRET_LENGTH = 35
_BASE64URL = string.ascii_letters + string.digits + "_-"


def make_token(bot_id: int | None = None, rng: random.Random | None = None) -> str:
    """A token of the right shape for a simulated bot: `<bot id>:<35 base64url characters>`."""
    chance = rng or random.Random()
    number = chance.randint(10**8, 10**10) if bot_id is None else bot_id
    return f"{number}:" + "".join(chance.choices(_BASE64URL, k=_SECRET_LENGTH))


class TelegramSimulator:
    """Telegram's Bot API for any number of bots, as their clients see it.

    `asgi` is the ASGI program (the simulator itself is one too); serve it with `SimulatorServer` or call it through
    `httpx.ASGITransport`. Everything else is the control side: `user()` and `group()` make people and chats, `faults`
    scripts misfortune, `journal` answers questions about what the clients did. Use it within a running event loop, and
    `async with` it (or call `aclose`) to end its timers.

    Args: tokens, token -> username (one random bot when None); clock, every timing rule follows it; seed, of ids and
        random waits; rules, limits and switches; journal_keep, how many calls are remembered (None: all); control,
        whether `/_sim/...` is served; fetch_url, how sends by URL get what lies there (see also `urls`);
        webhook_transport, how webhooks are posted (None: real HTTP).
    Raises: ValueError, for a token without a bot id.
    """

    def __init__(
        self,
        tokens: Mapping[str, str] | None = None,
        *,
        clock: SimClock | None = None,
        seed: int = 0,
        rules: Rules | None = None,
        journal_keep: int | None = None,
        control: bool = False,
        fetch_url: UrlFetcher | None = None,
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        rng = random.Random(seed)
        self.clock: SimClock = clock or RealClock()
        self.rules = rules or Rules()
        self.journal = Journal(self.clock, journal_keep)
        self.faults = Faults(self.clock)
        self.world = World(self.clock, rng, self.rules, self.journal, self.faults)
        self.world.fetch_url = fetch_url
        self.world.webhook_transport = webhook_transport
        self.urls = self.world.urls
        self.by_token: dict[str, Bot] = {}
        for token, username in (tokens or {make_token(rng=rng): "kiebot_bot"}).items():
            self.add_bot(token, username)
        self.users: dict[tuple[int, int], users.SimUser] = {}
        self.control = Control(self) if control else None
        self.asgi = Surface(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.asgi(scope, receive, send)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End timers, parked polls and webhook deliveries."""
        for bot in self.by_token.values():
            bot.webhook.stop()
        self.asgi.cut_waiting()
        await self.world.tasks.aclose()

    # bots

    def add_bot(self, token: str, username: str) -> Bot:
        number, _, secret = token.partition(":")
        bot = Bot(int(number), secret, username, self.world)
        self.by_token[token] = bot
        return bot

    @property
    def bot(self) -> Bot:
        """The first bot."""
        return next(iter(self.by_token.values()))

    @property
    def token(self) -> str:
        """The first bot's token."""
        return next(iter(self.by_token))

    # people

    def user(
        self,
        user_id: int | None = None,
        name: str = "Anna",
        language_code: str = "en",
        *,
        started: bool = True,
        username: str | None = None,
        bot: Bot | None = None,
    ) -> "users.SimUser":
        """A person who can talk to a bot; the same one again for an id already used."""
        owner = bot or self.bot
        number = user_id if user_id is not None else 700_000_001 + len(self.users)
        known = self.users.get((owner.bot_id, number))
        if known is None:
            known = users.SimUser(owner, number, name, language_code, started=started, username=username)
            self.users[owner.bot_id, number] = known
        return known

    def group(
        self,
        chat_id: int,
        title: str = "Group",
        members: Iterable["users.SimUser"] = (),
        *,
        kind: ChatKind = "supergroup",
        bot: Bot | None = None,
    ) -> "users.SimGroup":
        """A group, supergroup or channel that the bot is a member of."""
        return users.SimGroup(bot or self.bot, chat_id, title, kind, list(members))

    # scripting

    def inject(self, kind: str, payload: Json, *, lane: str = "", bot: Bot | None = None) -> int | None:
        """Store one raw update, unknown kinds and fields included. Returns its id; None when it was dropped."""
        return (bot or self.bot).emit(kind, payload, lane or _lane_of(payload))

    def inject_many(self, n: int, factory: Callable[[int], tuple[str, Json]], *, bot: Bot | None = None) -> list[int]:
        """Store n updates, `factory(i) -> (kind, payload)`. Returns the ids of those that were stored."""
        stored = (self.inject(*factory(i), bot=bot) for i in range(n))
        return [update_id for update_id in stored if update_id is not None]

    def restart(self, *, cuts: bool = True) -> None:
        """The server restarts: connections in use are cut (or polls answered 429), the queues survive."""
        for bot in self.by_token.values():
            bot.restart(cuts=cuts)
        if cuts:
            self.asgi.cut_waiting()

    def revoke(self, token: str | None = None) -> None:
        """That token (default: the first) answers 401 until `restore`."""
        self.by_token[token or self.token].revoke()

    def restore(self, token: str | None = None) -> None:
        self.by_token[token or self.token].restore()


def _lane_of(payload: Json) -> str:
    chat = payload.get("chat") or payload.get("message", {}).get("chat")
    if isinstance(chat, dict):
        return f"chat:{chat.get('id')}"
    sender = payload.get("from") or payload.get("user") or {}
    return f"user:{sender.get('id', 0)}"
