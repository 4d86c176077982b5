"""Payments on a real Postgres against the strict simulator, without a cluster: every step is a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from telegram.ext import ExtBot

from kiebot.bot.application import BotHandler
from kiebot.bot.receipts import Receipts
from kiebot.bot.settings import BotSettings
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.source import TelegramSource
from kiebot.botapi.stars import TelegramStars
from kiebot.clock import SystemClock
from kiebot.delivery.courier import Courier
from kiebot.generation.model import Order, Quoted
from kiebot.ids import new_id
from kiebot.intake.checkout import CheckoutDesk
from kiebot.intake.ports import RawUpdate
from kiebot.payments.checkout import Checkout
from kiebot.payments.credit import Terms
from kiebot.payments.providers import Providers
from kiebot.payments.reconcile import Reconciliation
from kiebot.payments.refunds import Refunds
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import FloodRules, Rules, TelegramSimulator, make_token
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.users import Payment, SimUser
from kiebot.storage.transaction import Database
from kiebot.storage.verify import verify
from kiebot.wakeups import Wakeup

KEY = b"key of the tests"
TERMS = Terms(Decimal(2), KEY)  # two Stars for a credit, so that no mix-up of the two goes unseen
SETTINGS = BotSettings(Decimal(2), "kiebot_bot", TERMS, support_contact="@shop_help")
_SECOND_S = 1.0


class RememberingQueue:
    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        self.wakeups.extend(wakeups)


class MovableClock(SystemClock):
    """The machine's, `ahead_s` seconds later."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)


class NoResults:
    """There are none in these tests."""


@dataclass
class Shop:
    """One replica's hands: it fetches, answers, handles and delivers when told to."""

    sim: TelegramSimulator
    engine: AsyncEngine
    database: Database
    queue: RememberingQueue
    stars: TelegramStars
    source: TelegramSource
    courier: Courier
    handler: BotHandler
    desk: CheckoutDesk
    owner: UUID
    clock: MovableClock  # of invoices; the simulator lives in real time
    seen: list[RawUpdate] = field(default_factory=list)
    _offset: int = 0

    @property
    def refunds(self) -> Refunds:
        return Refunds(self.database, Providers(self.stars), Receipts(), SystemClock())

    def reconciliation(self) -> Reconciliation:
        return Reconciliation(self.database, self.stars, Receipts(), SystemClock())

    async def fetches(self, *, is_answering: bool = True) -> list[RawUpdate]:
        """One poll; pre-checkout questions are answered beside it."""
        updates = await self.source.fetch(self._offset, timeout_s=0)
        self._offset = max((update.update_id + 1 for update in updates), default=self._offset)
        self.seen += updates
        if is_answering:
            self.desk.serve(updates)
            await self.desk.settle()
        return updates

    async def handles(self, payload: bytes) -> None:
        """One update, as the drain would; and what it decided is sent."""
        async with self.database.transaction() as tx:
            await tx.replicas.beat(self.owner, "r", {})
            drafts = await self.handler.handle(tx, payload)
            rows, _ = await tx.outbox.add_all(drafts, self.owner)
        await self.courier.send_claimed(rows)
        await self.delivers()

    async def delivers(self) -> None:
        """Everything that was decided goes out."""
        for chat_id in await self.column("SELECT DISTINCT chat_id FROM outbox WHERE sent_at IS NULL"):
            await self.courier.deliver(chat_id)

    async def works_off(self) -> None:
        """All updates that wait at Telegram."""
        while self.sim.bot.queue:
            for update in await self.fetches():
                await self.handles(update.payload)

    async def bill(self, anna: SimUser, credits: int = 100) -> ChatMessage:
        """By /topup and a press; the message that can be paid."""
        await anna.sends("/topup")
        await self.works_off()
        await anna.presses(f"{credits} credits · ⭐ {credits * 2}")
        await self.works_off()
        message = anna.last_message
        assert message.invoice is not None
        return message

    async def sells(self, anna: SimUser, credits: int = 100) -> Payment:
        """A payment, booked."""
        payment = await self.is_paid(anna, await self.bill(anna, credits))
        assert payment.charge_id is not None, payment.error
        await self.works_off()
        return payment

    async def is_paid(self, anna: SimUser, bill: ChatMessage | str) -> Payment:
        """The payer presses Pay and we answer; the news of the payment waits at Telegram."""
        paying = asyncio.create_task(anna.pays(bill))
        await asyncio.sleep(0)
        await self.fetches()
        return await paying

    async def available(self, anna: SimUser) -> Decimal:
        async with self.database.transaction() as tx:
            return Decimal((await tx.ledger.balance(anna.user_id)).available) / 1000

    async def spends(self, anna: SimUser, credits: int, *, is_made: bool = True) -> None:
        """A work for that many credits; not made: it holds them still."""
        made = new_id()
        price = Quoted(credits * 500, credits * 1000)
        order = Order(made, str(made), anna.user_id, anna.chat_id, "m", {}, price, "en")
        async with self.database.transaction() as tx:
            await tx.generations.add(order)
            await tx.ledger.hold(made, anna.user_id, credits * 1000, max_open=20)
            if is_made:
                await tx.ledger.capture(made, anna.user_id, None, slot=False)
        if is_made:
            await self.execute(f"UPDATE generations SET state = 'succeeded', finished_at = now() WHERE id = '{made}'")
            await self.execute(
                "INSERT INTO outbox (chat_id, kind, payload, generation_id, sent_at)"
                f" VALUES (1, 'result', '{{}}', '{made}', now())"
            )

    async def account(self, key: str) -> Decimal:
        found = await self.column(f"SELECT available FROM accounts WHERE key = '{key}'")
        return Decimal(found[0]) / 1000

    async def column(self, query: str) -> list[Any]:
        async with self.engine.connect() as connection:
            return list(await connection.scalars(text(query)))

    async def execute(self, statement: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))

    async def books_are_right(self) -> None:
        assert await verify(self.engine) == []


@pytest.fixture
async def shop(engine: AsyncEngine) -> AsyncIterator[Shop]:
    rules = replace(Rules(flood=FloodRules(is_on=False), local_server=True), pre_checkout_deadline_s=_SECOND_S)
    queue = RememberingQueue()
    database = Database(engine, queue)
    clock = MovableClock()
    async with (
        TelegramSimulator({make_token(bot_id=7000): "kiebot_bot"}, rules=rules) as sim,
        SimulatorServer(sim) as server,
    ):
        bot: ExtBot[Any] = make_bot(sim.token, api_url=server.url)
        stars = TelegramStars(bot, TERMS)
        source = TelegramSource(sim.token, lambda _: False, api_url=server.url)
        owner = new_id()
        courier = Courier(database, TelegramMessenger(bot), NoResults(), owner, SystemClock())  # type: ignore[arg-type]  # no outcome is sent
        handler = BotHandler(SETTINGS, sim.bot.bot_id, clock)
        desk = CheckoutDesk(Checkout(stars, Receipts(), KEY, clock))
        yield Shop(sim, engine, database, queue, stars, source, courier, handler, desk, owner, clock)
        await source.aclose()
        await close_bot(bot)


@pytest.fixture
def anna(shop: Shop) -> SimUser:
    return shop.sim.user(501, "Anna")
