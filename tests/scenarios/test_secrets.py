"""A canary for every secret, a run with everything going wrong at LOG_LEVEL=DEBUG, and a search for the canaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from redis.asyncio import Redis

from kiebot.simulators.server import AsgiApp, Receive, Scope, Send
from tests.scenarios.buying import CREATE, can_create, creates, gets, gets_media, model, opens, sends_file
from tests.scenarios.fleet import ARQ, KIEBOT_RUN, Fleet
from tests.scenarios.gate import Gate, before_postgres, before_redis
from tests.scenarios.world import World, open_world

pytestmark = pytest.mark.slow

TOKEN_SECRET = "AAcanaryOfTheTokenThatNobodyMaySee-"
TOKEN = f"7123456:{TOKEN_SECRET}"
KIE_KEY = "canaryofthekiekey0123456789"
OTHERS = {"WEBHOOK_SECRET": "canaryOfTheWebhook", "KIE_WEBHOOK_KEY": "canaryOfTheMaker"}
LEASE = {"LEASE_TTL_S": "4", "LEASE_RENEW_S": "0.8"}


@dataclass
class Tap:
    """An ASGI program that keeps every request's line, headers and body."""

    app: AsgiApp | None = None
    heard: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def before(self, app: AsgiApp) -> AsgiApp:
        self.app = app
        return self.listen

    async def listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", [])}
        body = bytearray()

        async def listening() -> Any:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        try:
            await self.app(scope, listening, send)
        finally:
            line = f"{scope.get('method')} {scope.get('path')}?{scope.get('query_string', b'').decode('latin-1')}"
            self.heard.append((line, headers, bytes(body)))


@dataclass
class Watch:
    """The fleet under watch, the doors to its stores, and what must not be found anywhere."""

    fleet: Fleet
    gates: tuple[Gate, Gate]
    tap: Tap
    canaries: tuple[str, ...]

    @property
    def world(self) -> World:
        return self.fleet.world

    def assert_silent(self, what: str, texts: Iterable[str | bytes]) -> None:
        for text in texts:
            plain = text if isinstance(text, str) else text.decode("latin-1")
            for canary in self.canaries:
                place = max(plain.find(canary), unquote(plain).find(canary))
                assert place < 0, f"{what} tells a secret: ...{plain[max(0, place - 300) : place + 100]}..."


@pytest.fixture
async def watch(database_url: str, redis_url: str, redis_prefix: str, tmp_path: Path) -> AsyncIterator[Watch]:
    tap = Tap()
    postgres, through_postgres = before_postgres(database_url)
    redis, through_redis = before_redis(redis_url)
    passwords = tuple(str(urlsplit(url).password) for url in (through_postgres, through_redis))
    async with open_world(database_url, redis_url, redis_prefix, token=TOKEN, api_key=KIE_KEY, tap=tap.before) as world:
        fleet = Fleet(world, tmp_path)
        for gate in (postgres, redis):
            await gate.open()
        dressed = {
            **OTHERS,
            **LEASE,
            "DATABASE_URL": through_postgres,
            "REDIS_URL": through_redis,
            "LOG_LEVEL": "DEBUG",
        }
        await fleet.start("a", KIEBOT_RUN, **dressed, LOG_FORMAT="console")
        await fleet.start("b", ARQ, **dressed)
        await fleet.are_ready()
        yield Watch(fleet, (postgres, redis), tap, (TOKEN_SECRET, KIE_KEY, *passwords, *OTHERS.values()))
        await fleet.stop_all()
        for gate in (postgres, redis):
            await gate.close()


async def test_no_secret_gets_out_whatever_goes_wrong(watch: Watch) -> None:
    world = watch.world
    await buys_through_trouble(world)
    await a_handler_raises(world)
    await stores_go_away(watch)
    await telegram_refuses(world)
    await asyncio.gather(maker_refuses_the_key(world), token_is_revoked(world))

    ships = list(watch.fleet.ships.values())
    in_redis, in_postgres = await values_in_redis(world), await rows_in_postgres(world)
    await watch.fleet.stop_all()
    for ship in ships:
        assert "httpcore" in ship.printed, "even libraries told everything"
        watch.assert_silent(f"what {ship.name} prints", [ship.printed])
    assert any("Traceback" in ship.printed for ship in ships), "there was something to tell"
    assert in_redis
    watch.assert_silent("Redis", in_redis)
    watch.assert_silent("Postgres", in_postgres)
    assert_only_the_maker_saw_its_key(watch)


async def buys_through_trouble(world: World) -> None:
    """Pages instead of answers, broken files, a broken upload; one work fails, one is delivered."""
    anna, boris = world.tg.user(501, "Anna"), world.tg.user(502, "Boris")
    world.kie.faults.next_create("html_502", model="z-image")
    await creates(anna)
    await gets(anna, "Back to you")
    world.kie.faults.next_upload("html_502")
    world.kie.faults.next_query("code_500")
    world.kie.faults.next_file("reset")
    world.tg.faults.answers("getFile", 500, "Internal Server Error", times=1)
    await opens(boris, model("google/nano-banana-edit"))
    await sends_file(boris, "image")
    await boris.sends("make it blue")
    await boris.hears(can_create, timeout=30)
    await boris.presses(CREATE)
    await gets_media(boris, timeout=60)


async def a_handler_raises(world: World) -> None:
    await world.execute("ALTER TABLE drafts ADD CONSTRAINT sabotage CHECK (state::text NOT LIKE '%bogeyman%')")
    await world.tg.user(503, "Clara").sends("draw the bogeyman")
    await world.until_row("SELECT max(attempts) > 0 FROM inbox")


async def stores_go_away(watch: Watch) -> None:
    """Both at once, while somebody writes; then back."""
    for gate in watch.gates:
        await gate.close()
    await watch.world.tg.user(504, "Dora").sends("/start")
    said = watch.fleet.ships
    await watch.world.until(lambda: all("unreachable" in s.printed or "missed" in s.printed for s in said.values()))
    for gate in watch.gates:
        await gate.open()
    await watch.world.tg.user(504).hears("Hello", timeout=40)


async def telegram_refuses(world: World) -> None:
    world.tg.faults.answers("sendMessage", 401, "Unauthorized", matches=lambda call: call.chat_id == 505)
    world.tg.faults.cuts_before("sendMessage", matches=lambda call: call.chat_id == 506)
    await world.tg.user(505, "Eva").sends("/start")
    await world.tg.user(506, "Fred").sends("/start")
    await world.tg.user(506).hears("Hello", timeout=40)


async def maker_refuses_the_key(world: World) -> None:
    world.kie.faults.next_create("code_401")
    await creates(world.tg.user(507, "Greta"))
    await world.until_row("SELECT count(*) > 0 FROM model_switches")


async def token_is_revoked(world: World) -> None:
    """Once Greta has bought: the polls are refused, and said so."""
    await world.until_row("SELECT count(*) > 0 FROM model_switches")
    world.tg.revoke()
    world.tg.restart()
    await world.until(lambda: any(call.status == 401 for call in world.tg.journal.polls()))
    world.tg.restore()


async def values_in_redis(world: World) -> list[bytes]:
    """Every key and value of this kiebot."""
    redis = Redis.from_url(world.redis_url)
    found: list[bytes] = []
    async for key in redis.scan_iter(match="*"):
        found += [key, await redis.dump(key) or b""]
    await redis.aclose()
    return found


async def rows_in_postgres(world: World) -> list[str]:
    """Every row of every table; raw payloads as text."""
    tables = await world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = []
    for (table,) in tables:
        found += [row[0] for row in await world.rows(f"SELECT t::text FROM {table} t")]
    payloads = await world.rows("SELECT payload FROM inbox UNION ALL SELECT payload FROM dead_letters")
    return [*found, *(bytes(row[0]).decode("latin-1") for row in payloads)]


def assert_only_the_maker_saw_its_key(watch: Watch) -> None:
    """The key goes in one header to the maker's API, and nowhere with the files."""
    assert len(watch.tap.heard) > 5
    for line, headers, body in watch.tap.heard:
        given = headers.pop("authorization", "")
        watch.assert_silent(f"a request to the maker ({line})", [line, repr(headers), body])
        assert given in ("", f"Bearer {KIE_KEY}")
    assert watch.world.kie.journal.key_leaks() == []
    calls = watch.world.tg.journal.calls()
    watch.assert_silent(
        "what Telegram is told", [quote(repr(call.arguments)) for call in calls if call.method != "setWebhook"]
    )
