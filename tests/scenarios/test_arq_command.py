"""`arq workers.settings` is a replica like any other: it elects, works, drains, and answers `--check`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from kiebot.jobs.keys import QueueKeys
from kiebot.simulators.telegram.faults import Hold
from tests.scenarios.fleet import ARQ, Fleet, Ship, ends
from tests.scenarios.world import World

pytestmark = pytest.mark.slow

TTL_S = 4.0  # of the lease in these tests; the default is 10
LEASE = {"LEASE_TTL_S": "4", "LEASE_RENEW_S": "0.8"}
DOTTED = (sys.executable, "-m", "arq", "workers.settings.WorkerSettings")
CHECK = (*ARQ, "--check")
NOISE_S = 3.0  # what a loaded machine may add to any deadline
HEALTH_KEPT_S = 30


async def greets(world: World, *numbers: int) -> list[int]:
    """One person each writes /start; the ids of the updates."""
    actions = [await world.tg.user(number, f"P{number}").sends("/start") for number in numbers]
    return [update_id for action in actions for update_id in action.update_ids]


async def hears_a_greeting(world: World, *numbers: int) -> None:
    people = [world.tg.user(number) for number in numbers]
    await asyncio.gather(*(person.hears("Hello", timeout=30, ever=True) for person in people))


def sends_to(world: World, number: int) -> int:
    """How many messages took effect in this person's chat."""
    return len([call for call in world.tg.journal.calls("sendMessage", chat_id=number) if call.message_ids])


async def a_message_on_its_way(world: World, number: int) -> Hold:
    """Somebody wrote, and the answer is held at Telegram: one replica has a job that cannot end."""
    hold = world.tg.faults.holds("sendMessage")
    await greets(world, number)
    async with asyncio.timeout(20):
        await hold.reached()
    return hold


def holder_of(fleet: Fleet, hold: Hold) -> Ship:
    assert hold.call is not None
    return fleet.ships[hold.call.process]


async def test_three_arq_commands_are_one_cluster_and_survive_the_loss_of_each_leader(
    world: World, fleet: Fleet
) -> None:
    few = {**LEASE, "MAX_JOBS": "3"}  # one replica may take as many jobs of a burst as it has slots
    await asyncio.gather(fleet.start("a", ARQ, **few), fleet.start("b", DOTTED, **few), fleet.start("c", ARQ, **few))
    await fleet.are_ready("a", "b", "c")
    crowd = range(500, 530)
    sent = await greets(world, *crowd)
    await hears_a_greeting(world, *crowd)

    first = await fleet.poller()
    assert world.pollers() == {first}, "exactly one polls"
    assert {call.process for call in world.tg.journal.calls("sendMessage")} == {"a", "b", "c"}, "all work"

    hold = await a_message_on_its_way(world, 600)  # SIGTERM while a job runs
    leaver = holder_of(fleet, hold)
    leaver.send(signal.SIGTERM)
    other = await fleet.poller(other_than=leaver.name)
    sent += await greets(world, 601)
    await hears_a_greeting(world, 601)
    assert leaver.process.returncode is None, "it lets its running job end"
    hold.release()
    assert await leaver.ends() == 0
    await hears_a_greeting(world, 600)

    fleet.ships[other].process.kill()  # SIGKILL of the leader
    died_at = time.monotonic()
    sent += await greets(world, *range(700, 710))
    await fleet.poller(other_than=other)
    assert time.monotonic() - died_at < TTL_S + NOISE_S
    await hears_a_greeting(world, *range(700, 710))
    await world.settles()

    assert await world.scalar("SELECT count(*) FROM inbox WHERE update_id = ANY(:ids)", ids=sent) == len(sent)
    assert {number: sends_to(world, number) for number in (*crowd, 600, 601, *range(700, 710))} == dict.fromkeys(
        (*crowd, 600, 601, *range(700, 710)), 1
    ), "everybody is answered once"
    assert world.tg.journal.conflicts_to_live_clients() == []
    assert world.tg.journal.live_poll_overlaps() == []


async def test_a_second_sigterm_ends_it_at_once(world: World, fleet: Fleet) -> None:
    ship = await fleet.start("a", ARQ, **LEASE, SHUTDOWN_GRACE_S="100")
    await fleet.are_ready()
    await a_message_on_its_way(world, 500)
    ship.send(signal.SIGTERM)
    await world.until(lambda: "worker.draining" in ship.printed)
    ship.send(signal.SIGTERM)
    asked_at = time.monotonic()
    assert await ship.ends() == 0
    assert time.monotonic() - asked_at < 10.0 + NOISE_S


async def test_check_says_whether_a_replica_lives(world: World, fleet: Fleet, tmp_path: Path) -> None:
    redis = Redis.from_url(world.redis_url)
    shared = QueueKeys(world.redis_prefix).health
    assert (await ends(CHECK, world.environment(), tmp_path))[0] == 1
    for name in ("a", "b"):
        await fleet.start(name, ARQ, **LEASE)
    await fleet.are_ready()
    fleet.ships["a"].send(signal.SIGTERM)
    assert await fleet.ships["a"].ends() == 0
    assert (await ends(CHECK, world.environment(), tmp_path))[0] == 0, "one that leaves takes nobody along"
    fleet.ships["b"].send(signal.SIGTERM)
    assert await fleet.ships["b"].ends() == 0
    assert await redis.pttl(shared) <= HEALTH_KEPT_S * 1000, "silence is noticed"
    await redis.aclose()


@pytest.mark.parametrize("command", [ARQ, DOTTED], ids=["module", "class"])
async def test_a_wrong_configuration_ends_with_78_and_names_every_problem(
    world: World, tmp_path: Path, command: tuple[str, ...]
) -> None:
    wrong = world.environment(LEASE_TTL_S="3", PORT="99999", BOT_MODE="carrier pigeon", TELEGRAM_BOT_TOKEN="secret?")
    status, said = await ends(command, wrong, tmp_path)
    assert status == 78
    for name in ("TELEGRAM_BOT_TOKEN", "PORT", "BOT_MODE"):
        assert f"configuration: {name}" in said
    assert "secret?" not in said
    assert len(world.tg.journal) == 0
    assert len(world.kie.journal) == 0
