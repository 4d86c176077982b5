"""Delivery as it is: rows in Postgres, the Bot API's simulator, results from KIE's simulator, the bot's own texts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text

from kiebot.bot.rendering import BotRenderer
from kiebot.bot.settings import BotSettings
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.delivery.card import CardKeeper
from kiebot.delivery.courier import Courier
from kiebot.delivery.results import ResultSender
from kiebot.generation.model import Generation
from kiebot.generation.ports import Results
from kiebot.kie.results import KieResults
from kiebot.payments.credit import Terms
from kiebot.simulators.telegram import TelegramSimulator
from tests.botapi.conftest import Telegram
from tests.botapi.conftest import bot as bot
from tests.botapi.conftest import messenger as messenger
from tests.botapi.conftest import telegram as telegram
from tests.generation.conftest import Rig
from tests.generation.conftest import rig as rig

SETTINGS = BotSettings(Decimal(2), "kiebot_bot", Terms(Decimal(1), b"key"))
CHAT = 70  # where the rig's orders come from


@dataclass
class Office:
    """One replica's courier and card keeper. Jobs are run by hand."""

    rig: Rig
    telegram: TelegramSimulator
    courier: Courier
    cards: CardKeeper

    async def refresh(self, generation_id: UUID) -> None:
        """The card's job, with the pause between edits over."""
        async with self.rig.database.engine.begin() as connection:
            await connection.execute(text("UPDATE cards SET next_at = now()"))
        await self.cards.refresh(generation_id)

    async def waiting(self) -> int:
        async with self.rig.database.engine.connect() as connection:
            found = await connection.scalar(text("SELECT count(*) FROM outbox WHERE sent_at IS NULL"))
        return int(found or 0)

    async def made(self) -> Generation:
        """A captured generation whose result waits to be sent."""
        await self.rig.grant(10)
        return await self.rig.settles((await self.rig.order()).id)


def courier_with(rig: Rig, messenger: TelegramMessenger, results: Results) -> Courier:
    sender = ResultSender(rig.database, messenger, BotRenderer(SETTINGS), results, rig.tools.clock)
    return Courier(rig.database, messenger, sender, rig.tools.owner, rig.tools.clock)


@pytest.fixture
def office(rig: Rig, telegram: Telegram, messenger: TelegramMessenger) -> Office:
    renderer, tools = BotRenderer(SETTINGS), rig.tools
    cards = CardKeeper(rig.database, messenger, renderer, tools.owner, tools.clock, create_every_s=0.5, running=3)
    return Office(rig, telegram.sim, courier_with(rig, messenger, rig.tools.results), cards)


@pytest.fixture
async def elsewhere(office: Office, messenger: TelegramMessenger, rig: Rig) -> AsyncIterator[Courier]:
    """The courier of a replica that has not read the results."""
    async with KieResults([rig.kie_host]) as results:
        yield courier_with(rig, messenger, results)
