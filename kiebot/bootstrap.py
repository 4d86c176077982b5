"""The composition root: settings become connected adapters, adapters become services. It knows every class.

Nothing here talks to the network except what opens embedded engines: connections are made when they are first used, so
a store that is away at start is waited for by whoever needs it, not by the construction.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from uuid import UUID

from arq.connections import ArqRedis
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.bot.handlers.cancel import is_urgent
from kiebot.bot.measuring import FileMeasurer
from kiebot.bot.notices import Notices
from kiebot.bot.receipts import Receipts
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.files import TelegramFiles
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.ratelimit import SharedRateLimiter
from kiebot.botapi.setup import TelegramSetup
from kiebot.botapi.source import TelegramSource
from kiebot.botapi.stars import TelegramStars
from kiebot.botapi.updates import UpdateReader
from kiebot.clock import Clock, SystemClock
from kiebot.delivery.card import CardKeeper
from kiebot.delivery.courier import Courier
from kiebot.delivery.ports import Renderer
from kiebot.delivery.results import ResultSender
from kiebot.engines import Engines, open_engines
from kiebot.generation.alarm import Operators
from kiebot.generation.pace import Pace
from kiebot.generation.service import Generations
from kiebot.generation.tools import Tools
from kiebot.ids import new_id
from kiebot.intake.checkout import CheckoutDesk
from kiebot.intake.drain import Drainer, UpdateHandler
from kiebot.jobs.enqueue import Enqueuer
from kiebot.jobs.pool import make_pool
from kiebot.jobs.tasks import ArqQueue
from kiebot.jobs.turnstile import Turnstile
from kiebot.kie.budget import Budget, create_limit, poll_limit
from kiebot.kie.client import KieProvider
from kiebot.kie.replays import Replays
from kiebot.kie.results import KieResults
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import LeaseStore
from kiebot.payments.checkout import Checkout
from kiebot.payments.providers import Providers
from kiebot.payments.refunds import Refunds
from kiebot.settings import Settings
from kiebot.storage.engine import close_engine, make_engine
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.transaction import Database

LEASE_NAME = "poller"


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores are. `engines` is held while they are embedded."""

    database_url: str
    redis_url: str
    lease_url: str
    migrate_url: str
    engines: Engines | None = None

    @property
    def described(self) -> str:
        return self.engines.described if self.engines is not None else "given by DATABASE_URL and REDIS_URL"

    @property
    def secrets(self) -> list[str]:
        """Addresses with passwords in them, for the redaction of logs."""
        return [self.database_url, self.redis_url, self.lease_url, self.migrate_url]

    def close(self) -> None:
        if self.engines is not None:
            self.engines.close()


def open_stores(settings: Settings) -> Stores:
    """The stores of the settings; embedded ones for those that are not set. Blocking. Raises: EngineError."""
    database, redis = _value(settings.database_url), _value(settings.redis_url)
    engines = None if database and redis else open_engines(settings.home)
    database = database or (engines.database_url if engines else "")
    redis = redis or (engines.redis_url if engines else "")
    return Stores(
        database_url=database,
        redis_url=redis,
        lease_url=_value(settings.lease_url) or redis,
        migrate_url=_value(settings.database_migrate_url) or database,
        engines=engines,
    )


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


class Adapters:
    """Everything that touches the outside, built once per process, closed once."""

    def __init__(self, settings: Settings, stores: Stores, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.incarnation: UUID = new_id()
        self.engine: AsyncEngine = make_engine(
            stores.database_url, pool_size=settings.db_pool_size, application=f"kiebot {settings.replica_id}"
        )
        self.redis: ArqRedis = make_pool(stores.redis_url, prefix=settings.redis_prefix)
        # Intake and heartbeat have connections of their own: jobs that wait for one must neither hold up what Telegram
        # sent nor make this replica look dead.
        self.pulse: AsyncEngine = make_engine(
            stores.database_url, pool_size=3, application=f"kiebot {settings.replica_id} intake"
        )
        self.queue = ArqQueue(Enqueuer(self.redis, prefix=settings.redis_prefix))
        self.gate = Turnstile(self.redis, prefix=settings.redis_prefix)
        self.database = Database(self.engine, self.queue)
        self.inbox = PostgresInbox(self.pulse, settings.bot_id)
        self.lease_store: LeaseStore = open_lease_store(
            stores.lease_url,
            clock=self.clock,
            prefix=settings.redis_prefix,
            call_timeout_s=settings.lease_timing().call_timeout_s,
        )
        self._token = settings.telegram_bot_token.get_secret_value()
        self.telegram = make_bot(
            self._token,
            api_url=settings.telegram_api_url,
            replica=settings.replica_id,
            limiter=SharedRateLimiter(self.redis, prefix=settings.redis_prefix),
        )
        self.setup = TelegramSetup(self.telegram)
        self.messenger = TelegramMessenger(self.telegram)
        terms = settings.payment_terms()
        self.payment_providers = Providers(TelegramStars(self.telegram, terms))
        # Connections of their own: a payer waits ten seconds at most, and uploads may keep all others for longer.
        self.counter = make_bot(
            self._token, api_url=settings.telegram_api_url, replica=settings.replica_id, pool_size=8
        )
        self.checkouts = CheckoutDesk(Checkout(TelegramStars(self.counter, terms), Receipts(), terms.key, self.clock))
        self.files = TelegramFiles(self.telegram)
        self.updates = UpdateReader(is_urgent)
        self.provider = KieProvider(
            settings.kie_api_key.get_secret_value(), api_url=settings.kie_api_url, upload_url=settings.kie_upload_url
        )
        self.results = KieResults(settings.kie_result_hosts, sign=self.provider.signed_link)
        self.replays = Replays(self.redis, settings.redis_prefix)

    def source(self) -> TelegramSource:
        """A poller's own connections, for one term. Closed by whoever asked for it."""
        settings = self.settings
        return TelegramSource(self._token, is_urgent, api_url=settings.telegram_api_url, replica=settings.replica_id)

    def create_budget(self) -> Budget:
        key = f"{self.settings.redis_prefix}:kie:create"
        return Budget(self.redis, key, create_limit(self.settings.kie_create_per_10s), clock=self.clock)

    def poll_budget(self) -> Budget:
        key = f"{self.settings.redis_prefix}:kie:poll"
        return Budget(self.redis, key, poll_limit(self.settings.kie_polls_per_s), clock=self.clock)

    def tools(self) -> Tools:
        settings = self.settings
        base = settings.public_url
        return Tools(
            store=self.database,
            provider=self.provider,
            results=self.results,
            files=self.files,
            create_budget=self.create_budget(),
            poll_budget=self.poll_budget(),
            clock=self.clock,
            owner=self.incarnation,
            callback_url=(lambda attempt: f"{base}/kie/callback/{attempt}") if base else None,
            limits=settings.limits(),
            pace=Pace(scale=settings.kie_pace, result_patience_s=settings.kie_result_patience_s),
            content_filter=settings.content_filter,
            operators=Operators(settings.admin_ids, Notices()),
        )

    async def close(self) -> None:
        """Close every connection, whatever fails on the way."""
        closers = (
            close_bot(self.telegram),
            close_bot(self.counter),
            self.files.aclose(),
            self.provider.close(),
            self.results.close(),
            self.lease_store.close(),
            self.redis.aclose(close_connection_pool=True),
            close_engine(self.engine),
            close_engine(self.pulse),
        )
        for closer in closers:
            with contextlib.suppress(Exception, asyncio.TimeoutError):
                async with asyncio.timeout(3.0):
                    await closer


class Services:
    """What jobs call: the services of one replica."""

    def __init__(self, adapters: Adapters, handler: UpdateHandler, renderer: Renderer) -> None:
        owner, database = adapters.incarnation, adapters.database
        clock = adapters.clock
        result_sender = ResultSender(database, adapters.messenger, renderer, adapters.results, clock)
        self.courier = Courier(database, adapters.messenger, result_sender, owner, clock)
        self.cards = CardKeeper(
            database,
            adapters.messenger,
            renderer,
            owner,
            clock,
            create_every_s=10.0 / adapters.settings.kie_create_per_10s,
            running=adapters.settings.max_running_per_user,
        )
        measurer = FileMeasurer(adapters.files)
        self.drainer = Drainer(database, handler, self.courier, owner, clock, adapters.gate, measurer)
        self.generations = Generations(adapters.tools())
        self.refunds = Refunds(database, adapters.payment_providers, Receipts(), clock)

    async def drain(self, lane: str) -> None:
        await self.drainer.drain(lane)

    async def advance(self, generation_id: UUID) -> None:
        await self.generations.advance(generation_id)

    async def deliver(self, chat_id: int) -> None:
        await self.courier.deliver(chat_id)

    async def refresh_card(self, generation_id: UUID) -> None:
        await self.cards.refresh(generation_id)

    async def repay(self, refund_id: int) -> None:
        await self.refunds.advance(refund_id)
