"""A pytest plug-in for the library's tests: `telegram.ext.AIORateLimiter` is ours, on the Redis at LIMITER_REDIS_URL.

Copied next to them before it is loaded, for there `tests` is the library's own package.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import telegram.ext
from redis.asyncio import Redis
from telegram import User
from telegram.ext import ExtBot

from kiebot.botapi.buckets import Bucket, Limits
from kiebot.botapi.ratelimit import EXEMPT, SharedRateLimiter

TOKEN = "4242:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"  # of nobody
UNLIMITED = Bucket(0.0001, 1000)
LEFT_OUT = {
    "test_group_caching": "counts the entries of a dictionary inside the library's limiter; our buckets are in Redis",
    "test_allow_paid_broadcast": "kiebot never pays for broadcasts, so its limiter knows no second limit for them",
}
_numbers = itertools.count()


class Ours(SharedRateLimiter):
    """The library's arguments, spelled as ours. Its tests call getMe to stand for any method, so that may wait, too."""

    def __init__(
        self,
        overall_max_rate: float = 30,
        overall_time_period: float = 1,
        group_max_rate: float = 20,
        group_time_period: float = 60,
        max_retries: int = 0,
    ) -> None:
        overall, group = _bucket(overall_max_rate, overall_time_period), _bucket(group_max_rate, group_time_period)
        super().__init__(
            Redis.from_url(os.environ["LIMITER_REDIS_URL"]),
            f"library{next(_numbers)}",
            limits=Limits(overall, UNLIMITED, group),
            exempt=EXEMPT - {"getMe"},
            max_wait_s=60.0,
            max_retries=max_retries,
        )


def _bucket(rate: float, period_s: float) -> Bucket:
    return Bucket(period_s / rate, max(1, int(rate))) if rate else UNLIMITED


telegram.ext.AIORateLimiter = Ours  # type: ignore[misc, assignment]  # the very purpose of this module


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flaky: the library repeats such tests up to ten times; here once must do")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (why := LEFT_OUT.get(getattr(item, "originalname", item.name))) is not None:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
async def bot() -> AsyncIterator[ExtBot[Any]]:
    """What the library's tests take a token from, and its name; it is never called."""
    made: ExtBot[Any] = ExtBot(TOKEN)
    made._bot_user = User(4242, "kiebot", is_bot=True)
    yield made
    await made.shutdown()


@pytest.fixture
def bot_info() -> dict[str, str]:
    return {"token": TOKEN}
