from __future__ import annotations

import pytest

from kiebot.bot.application import BotHandler
from tests.bot.doubles import FakeTx
from tests.bot.people import BOT_ID, SETTINGS, Phone


@pytest.fixture(scope="session")
def handler() -> BotHandler:
    return BotHandler(SETTINGS, BOT_ID)


@pytest.fixture
def anna(handler: BotHandler) -> Phone:
    return Phone(handler, FakeTx())
