"""Redis loses everything in the middle of the work: the rows say what there was to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from redis.asyncio import Redis

from kiebot.jobs.keys import QueueKeys
from kiebot.simulators.telegram.journal import Call
from kiebot.simulators.users import SimUser
from kiebot.sweepers import GRACE_S, SWEEP_EVERY_S
from tests.scenarios.buying import creates
from tests.scenarios.fleet import Fleet
from tests.scenarios.world import World

BUYERS, EACH = range(501, 505), 2  # one of them may run
WAITERS, LATE = range(601, 606), 700
# A work's end has to be found, then, at worst, the next one's; beyond the rest is a hang, on a machine however busy.
ENDED_S = EACH * (SWEEP_EVERY_S + GRACE_S) + 15.0
_REFUSED = "SELECT count(*) = :count FROM outbox WHERE sent_at IS NULL AND reason IS NOT NULL"
_RUNNING = """
    SELECT count(*) FILTER (WHERE state = 'running') = :count AND count(*) FILTER (WHERE state = 'accepted') = :count
    FROM generations
"""


def to(person: SimUser) -> Callable[[Call], bool]:
    return lambda call: call.chat_id == person.user_id


async def buys(buyer: SimUser) -> None:
    for _ in range(EACH):
        await creates(buyer)


async def test_works_and_messages_whose_wake_ups_were_lost_with_redis_go_on_within_the_sweepers_time(
    world: World, fleet: Fleet
) -> None:
    """Some works run, as many wait for their owner's slot, and messages wait for Telegram to take them."""
    for name in ("a", "b"):
        await fleet.start(name, MAX_RUNNING_PER_USER="1")
    await fleet.are_ready()
    world.kie.faults.next_query("code_500", count=1000)  # no work ends
    buyers = [world.tg.user(number, f"B{number}", "en") for number in BUYERS]
    await asyncio.gather(*(buys(buyer) for buyer in buyers))
    waiters = [world.tg.user(number, f"W{number}", "en") for number in WAITERS]
    for waiter in waiters:
        world.tg.faults.answers("sendMessage", 502, times=None, matches=to(waiter))
    await asyncio.gather(*(waiter.sends("/start") for waiter in waiters))
    await world.until_row(_RUNNING, count=len(buyers))
    await world.until_row(_REFUSED, count=len(waiters))

    async with Redis.from_url(world.redis_url) as redis:
        assert await redis.zcard(QueueKeys(world.redis_prefix).queue) >= len(buyers) + len(waiters)
        world.kie.faults.clear()
        world.tg.faults.clear()
        await redis.flushall()
    emptied_at = time.monotonic()
    late = world.tg.user(LATE, "Late", "en")
    await late.sends("/start")
    await asyncio.gather(*(each.hears("Hello", timeout=ENDED_S, ever=True) for each in (*waiters, late)))
    await world.settles(ENDED_S)
    took_s = time.monotonic() - emptied_at
    assert took_s < ENDED_S

    works = len(buyers) * EACH
    assert await world.rows("SELECT state, count(*) FROM generations GROUP BY state") == [("succeeded", works)]
    for buyer in buyers:
        sent = world.tg.journal.calls("sendPhoto", chat_id=buyer.user_id)
        assert sum(bool(call.message_ids) for call in sent) == EACH, "each is told once"
    assert world.tg.journal.duplicate_sends() == []
    assert len(world.kie.billed_tasks()) == len(world.kie.journal.creates()) == works
    await world.assert_books_are_right()
    await world.assert_nothing_is_held()
