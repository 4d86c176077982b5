"""Telegram on a port, and the adapters of one replica that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from telegram.ext import ExtBot

from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.files import TelegramFiles
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.setup import TelegramSetup
from kiebot.botapi.source import TelegramSource
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import FloodRules, Rules, TelegramSimulator
from tests.simulators.telegram_kit import png


@dataclass(frozen=True)
class Telegram:
    """The simulator and where it listens."""

    sim: TelegramSimulator
    url: str


@pytest.fixture
async def telegram() -> AsyncIterator[Telegram]:
    rules = Rules(flood=FloodRules(is_on=False), local_server=True)
    async with TelegramSimulator(rules=rules) as sim, SimulatorServer(sim) as server:
        yield Telegram(sim, server.url)


@pytest.fixture
async def bot(telegram: Telegram) -> AsyncIterator[ExtBot[Any]]:
    made = make_bot(telegram.sim.token, api_url=telegram.url, replica="replica-a")
    yield made
    await close_bot(made)


@pytest.fixture
def messenger(bot: ExtBot[Any]) -> TelegramMessenger:
    return TelegramMessenger(bot)


@pytest.fixture
def setup(bot: ExtBot[Any]) -> TelegramSetup:
    return TelegramSetup(bot)


@pytest.fixture
async def files(bot: ExtBot[Any]) -> AsyncIterator[TelegramFiles]:
    made = TelegramFiles(bot)
    yield made
    await made.aclose()


@pytest.fixture
async def source(telegram: Telegram) -> AsyncIterator[TelegramSource]:
    made = TelegramSource(telegram.sim.token, is_stop, api_url=telegram.url, replica="replica-a")
    yield made
    await made.aclose()


def is_stop(data: str) -> bool:
    return data.startswith("stop")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_png(tmp_path / "picture")


def write_png(path: Path, width: int = 640, height: int = 480, tail: bytes = b"") -> Path:
    path.write_bytes(png(width, height, tail))
    return path


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url, socket_timeout=1.0)
    yield client
    await client.aclose()
