"""Wrong settings, stores that are away, strangers at the door: what a replica answers."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from structlog.testing import capture_logs

from tests.scenarios.crew import Crew
from tests.scenarios.fleet import KIEBOT_RUN, ends
from tests.scenarios.gate import Gate, before_postgres, before_redis, free_port
from tests.scenarios.world import World

LEASE = {"LEASE_TTL_S": "4", "LEASE_RENEW_S": "0.8"}
READY_S = 30.0


async def test_wrong_settings_are_all_named_at_once_before_any_connection(world: World, tmp_path: Path) -> None:
    wrong = world.environment(
        LEASE_TTL_S="0",
        MAX_JOBS="many",
        MARKUP="-1",
        ADMIN_IDS="me",
        TELEGRAM_API_URL="ftp://telegram",
        DATABASE_URL="mysql://nobody",
        LOG_LEVEL="LOUD",
    )
    del wrong["KIE_API_KEY"]
    status, said = await ends(KIEBOT_RUN, wrong, tmp_path)
    assert status == 78
    for name in (
        *(set(wrong) - set(world.environment(MAX_JOBS="", MARKUP=""))),
        "KIE_API_KEY",
        "MARKUP",
        "DATABASE_URL",
    ):
        assert f"configuration: {name}" in said
    assert "KIE_API_KEY: is not set" in said
    assert "nobody" not in said, "values are not told"
    assert len(world.tg.journal) == len(world.kie.journal) == 0


async def test_settings_that_do_not_fit_each_other_are_named(world: World, tmp_path: Path) -> None:
    wrong = world.environment(LEASE_TTL_S="3", BOT_MODE="webhook")
    status, said = await ends(KIEBOT_RUN, wrong, tmp_path)
    assert status == 78
    assert "LEASE_TTL_S" in said
    assert "PUBLIC_URL" in said


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_store_that_is_down_at_start_is_waited_for_by_name(world: World, crew: Crew, store: str) -> None:
    gate, environment = gated(world, store)
    port = free_port()
    with capture_logs() as logs:
        crew.start(**environment, **LEASE, PORT=str(port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as browser:
            red = await until_answered(browser, 503)
            assert red["checks"][store].startswith("unreachable")
            assert (await browser.get("/healthz")).status_code == 200
            await world.until(lambda: any(line.get("store") == store for line in logs))
            await gate.open()
            assert (await until_answered(browser, 200))["ready"] is True
    anna = world.tg.user(501, "Anna")
    await anna.sends("/start")
    await anna.hears("Hello", timeout=READY_S)
    await crew.stop_all()
    await gate.close()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_store_that_goes_away_and_comes_back_loses_no_update(world: World, crew: Crew, store: str) -> None:
    gate, environment = gated(world, store)
    await gate.open()
    crew.start(**environment, **LEASE)
    anna = world.tg.user(501, "Anna")
    await anna.sends("/start")
    await anna.hears("Hello", timeout=READY_S)

    await gate.close()
    await asyncio.gather(*(world.tg.user(600 + number, "P").sends("/start") for number in range(5)))
    held = world.tg.journal.polls()[-1]
    await world.until(lambda: held.ended_at is not None or held.disconnected_at is not None)
    await gate.open()
    await asyncio.gather(*(world.tg.user(600 + number).hears("Hello", timeout=READY_S) for number in range(5)))
    await world.settles()
    assert await world.scalar("SELECT count(*) FROM inbox") == 6
    assert world.tg.journal.duplicate_sends() == []
    await crew.stop_all()
    await gate.close()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_replica_that_leaves_while_a_store_is_frozen_leaves_no_connection_open(
    world: World, crew: Crew, store: str
) -> None:
    gate, environment = gated(world, store)
    await gate.open()
    before = connections_to(gate.port)
    crew.start(**environment, **LEASE, SHUTDOWN_GRACE_S="1")
    anna = world.tg.user(501, "Anna")
    await anna.sends("/start")
    await anna.hears("Hello", timeout=READY_S)
    assert connections_to(gate.port) > before == 0
    gate.is_stuck = True
    await crew.stop_all()
    async with asyncio.timeout(READY_S):  # one that is being made ends with the time-out of connecting
        while connections_to(gate.port):
            await asyncio.sleep(0.1)
    await gate.close()


def connections_to(port: int) -> int:
    """Connections of this very process, open on our side, to a port."""
    found = psutil.Process().net_connections("tcp")
    return [getattr(each.raddr, "port", None) for each in found].count(port)


async def test_forged_webhooks_and_callbacks_are_refused_without_effect(world: World, crew: Crew) -> None:
    port = free_port()
    crew.start(
        PORT=str(port),
        BOT_MODE="webhook",
        PUBLIC_URL=f"http://127.0.0.1:{port}",
        KIE_WEBHOOK_KEY="signed_by_the_maker",
        WEBHOOK_SECRET="only_telegram_knows",
    )
    update = {"update_id": 7, "message": {"message_id": 1, "date": 1, "text": "/start", "chat": {"id": 1}}}
    secret = {"X-Telegram-Bot-Api-Secret-Token": "guessed"}
    stranger = str(uuid.uuid4())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as browser:
        await until_answered(browser, 200)
        assert (await browser.post("/telegram/webhook", json=update)).status_code == 401
        assert (await browser.post("/telegram/webhook", json=update, headers=secret)).status_code == 401
        assert (await browser.get("/telegram/webhook")).status_code == 405
        body = {"code": 200, "data": {"taskId": "stolen", "state": "success"}}
        assert (await browser.post(f"/kie/callback/{stranger}", json=body)).status_code == 401, "not signed"
        assert (await browser.post("/kie/callback/not-an-attempt", json=body)).status_code == 404
        counted = (await browser.get("/metrics")).text
    assert 'route="/telegram/webhook",status="401"' in counted
    assert 'route="/kie/callback/",status="401"' in counted
    assert await world.scalar("SELECT count(*) FROM inbox") == 0


async def test_an_unsigned_callback_for_an_attempt_that_never_was_is_404(world: World, crew: Crew) -> None:
    port = free_port()
    crew.start(PORT=str(port), PUBLIC_URL=f"http://127.0.0.1:{port}")
    body = {"code": 200, "data": {"taskId": "stolen", "state": "success"}}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as browser:
        await until_answered(browser, 200)
        assert (await browser.post(f"/kie/callback/{uuid.uuid4()}", json=body)).status_code == 404
        assert (await browser.post("/telegram/webhook", json={})).status_code == 404, "no webhook while polling"


def gated(world: World, store: str) -> tuple[Gate, dict[str, str]]:
    if store == "postgres":
        gate, url = before_postgres(world.database_url)
        return gate, {"DATABASE_URL": url}
    gate, url = before_redis(world.redis_url)
    return gate, {"REDIS_URL": url}


async def until_answered(browser: httpx.AsyncClient, status: int) -> dict[str, Any]:
    """What /readyz says once it answers with this status."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                answer = await browser.get("/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # the port is not open yet
                continue
            if answer.status_code == status:
                return dict(answer.json())
            await asyncio.sleep(0.05)
