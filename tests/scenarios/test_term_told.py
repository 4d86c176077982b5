"""A term as operators see it afterwards: its lines in the log, and the numbers that are scraped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.scenarios.crew import Crew
from tests.scenarios.fleet import Fleet
from tests.scenarios.gate import before_redis, free_port
from tests.scenarios.world import World


async def polls(world: World, name: str) -> None:
    def is_parked() -> bool:
        parked = world.tg.bot.polls.parked
        return parked is not None and parked.process == name

    await world.until(is_parked)


async def test_each_change_of_hands_is_one_line_and_the_epoch_is_in_all_that_follow_the_fence(
    world: World, crew: Crew
) -> None:
    with capture_logs() as logged:
        for _ in range(2):
            name = crew.start()
            await polls(world, name)
            await crew.stop(name)
    changes = [entry for entry in logged if entry["event"] in ("lease.acquired", "poller.started", "lease.released")]
    told = [(entry["event"], entry.get("epoch")) for entry in changes]
    assert told == [
        *(("lease.acquired", None), ("poller.started", 1), ("lease.released", 1)),
        *(("lease.acquired", None), ("poller.started", 2), ("lease.released", 2)),
    ]
    assert len({entry["term"] for entry in changes}) == 2


class Scrapes:
    """One replica's /metrics, as Prometheus reads them."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def once(self) -> dict[str, float]:
        """Samples by name, with a kind label's word after it."""
        async with httpx.AsyncClient() as browser:
            text = (await browser.get(self._url)).text
        families = text_string_to_metric_families(text)
        samples = (sample for family in families for sample in family.samples if sample.name.startswith("kiebot_"))
        return {" ".join((each.name, *each.labels.values())).removeprefix("kiebot_"): each.value for each in samples}

    async def until(self, reached: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Raises: TimeoutError, with what was scraped last."""
        scraped: dict[str, float] = {}
        try:
            async with asyncio.timeout(20):
                while not reached(scraped := await self.once()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"not reached: {scraped}") from None
        return scraped


@pytest.mark.slow
async def test_what_is_scraped_of_a_term_tells_its_beginning_its_troubles_and_its_end(
    world: World, fleet: Fleet
) -> None:
    gate, lease_url = before_redis(world.redis_url)
    await gate.open()
    await world.execute(
        "INSERT INTO fence (bot_id, epoch, token, replica) VALUES (:b, 40, 't', 'r')", b=world.tg.bot.bot_id
    )
    port = free_port()
    await fleet.start("one", LEASE_URL=lease_url, LEASE_TTL_S="4", LEASE_RENEW_S="0.5", PORT=str(port))
    await fleet.are_ready()
    scrapes = Scrapes(port)
    leads = await scrapes.until(lambda seen: seen["is_leader"] == 1 and seen["lease_renew_seconds_count"] >= 2)
    assert leads["lease_epoch"] == 41
    assert 0 < leads["lease_trust_seconds"] <= 4 * 0.85
    assert 0 < leads["lease_renew_seconds_sum"] < leads["lease_renew_seconds_count"] * 4
    assert leads["lease_transitions_total acquired"] == 1
    for trouble in ("lease_renew_failures_total", "lease_store_errors_total", "telegram_conflicts_total"):
        assert leads[trouble] == 0, trouble

    async with httpx.AsyncClient(base_url=world.tg_url) as stranger:
        await stranger.post(f"/bot{world.tg.token}/getUpdates", json={"timeout": 0})
    await scrapes.until(lambda seen: seen["telegram_conflicts_total"] == 1)

    await world.execute(  # an update that waits, for its next try is not due
        "INSERT INTO inbox (bot_id, update_id, lane, payload, received_at, next_at)"
        " VALUES (:b, 1, '1/c1', '{}', now() - interval '70 s', now() + interval '1 h')",
        b=world.tg.bot.bot_id,
    )
    waits = await scrapes.until(lambda seen: seen["inbox_oldest_seconds"] >= 70)
    assert waits["inbox_oldest_seconds"] < 100
    await world.tg.user(500).sends("/start")  # ends the poll under way
    await world.tg.user(500).hears("Hello")
    heard = await scrapes.until(lambda seen: seen["updates_recorded_total"] == 1)
    assert abs(time.time() - heard["last_poll_timestamp_seconds"]) < 20

    await gate.close()
    shaken = await scrapes.until(lambda seen: seen["lease_renew_failures_total"] >= 1 and seen["is_leader"] == 1)
    assert 0 < shaken["lease_trust_seconds"] <= 4 * 0.85
    over = await scrapes.until(lambda seen: seen.get("lease_transitions_total deadline") == 1 and not seen["is_leader"])
    assert over["lease_trust_seconds"] == 0
    assert over["lease_store_errors_total"] >= over["lease_renew_failures_total"] >= 1
    assert over["telegram_conflicts_total"] == 1
    await gate.open()
    again = await scrapes.until(lambda seen: seen["is_leader"] == 1 and seen["lease_epoch"] == 42)
    kinds = ("acquired", "seized")  # what is left of the old lease may be found dead before it runs out
    assert sum(again.get(f"lease_transitions_total {kind}", 0) for kind in kinds) == 2
    await fleet.stop_all()
    await gate.close()
