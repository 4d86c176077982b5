"""How much of Telegram's thirty messages a second several senders reach together, and how often they are refused.

Each sender is a bot with connections and a limiter of its own; all share one Valkey. The simulator's flood rules are on
and stricter than Telegram's: it holds little back, so that every message too many is a 429 that is counted here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from redis.asyncio import Redis

from benchmarks.rig.report import spread, table
from benchmarks.rig.stage import House
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.botapi.ratelimit import SharedRateLimiter
from kiebot.errors import RateLimited
from kiebot.ids import new_token
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import FloodRules, Rules, TelegramSimulator

SENDERS = (1, 2, 4)
PER_SECOND = 30
SECONDS = 10
WAITING = 60  # messages that wait for their turn at any time, over all senders


@dataclass(frozen=True)
class Measured:
    share: float
    refused: int
    late_ms: float  # the longest gap between two messages


async def compare(house: House, rounds: int) -> dict[int, list[Measured]]:
    """By number of senders, round by round."""
    found: dict[int, list[Measured]] = {senders: [] for senders in SENDERS}
    for _ in range(rounds):
        for senders in SENDERS:
            found[senders].append(await measure(house.engines.redis_url, senders))
    rows = [[str(senders), *_cells(measured)] for senders, measured in found.items()]
    table(f"Sending as fast as allowed for {SECONDS} s", ["senders", "% of 30/s", "429s", "longest gap, ms"], rows)
    return found


async def measure(redis_url: str, senders: int) -> Measured:
    rules = Rules(flood=FloodRules(burst=6, max_hold_s=0.1))
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(TelegramSimulator(rules=rules))
        server = await stack.enter_async_context(SimulatorServer(sim))
        left = [sim.user().chat_id for _ in range(PER_SECOND * SECONDS)]
        prefix = f"bench-{new_token()}"
        async with asyncio.TaskGroup() as group:
            for number in range(senders):
                messenger = await _sender(stack, sim.token, server.url, redis_url, prefix, number)
                for _ in range(WAITING // senders):
                    group.create_task(_send(messenger, left))
        calls = sim.journal.calls("sendMessage")
    at = sorted(call.started_at for call in calls if call.status == 200)
    gaps = [later - before for before, later in itertools.pairwise(at)]
    refused = sum(1 for call in calls if call.status == 429)
    return Measured((len(at) - 1) / (at[-1] - at[0]) / PER_SECOND, refused, max(gaps) * 1000)


async def _sender(
    stack: AsyncExitStack, token: str, url: str, redis_url: str, prefix: str, number: int
) -> TelegramMessenger:
    redis: Redis = Redis.from_url(redis_url, socket_timeout=1.0)
    stack.push_async_callback(redis.aclose)
    limiter = SharedRateLimiter(redis, prefix)
    bot = make_bot(token, api_url=url, replica=f"sender-{number}", limiter=limiter)
    stack.push_async_callback(close_bot, bot)
    return TelegramMessenger(bot)


async def _send(messenger: TelegramMessenger, left: list[int]) -> None:
    while left:
        chat_id = left.pop()
        try:
            await messenger.send_text(chat_id, "hi")
        except RateLimited as error:  # here, or by Telegram, whose 429s are counted
            left.append(chat_id)
            await asyncio.sleep(error.retry_after_s)


def _cells(measured: Sequence[Measured]) -> list[str]:
    return [
        spread([each.share * 100 for each in measured], 1),
        str(sum(each.refused for each in measured)),
        spread([each.late_ms for each in measured]),
    ]
