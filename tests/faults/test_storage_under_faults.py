"""Claims, lanes, sweeps and heartbeats when something is slow, broken or much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.bootstrap import Adapters, Stores
from kiebot.clock import SystemClock
from kiebot.delivery.outbox import Draft, Row
from kiebot.intake.drain import MAX_TRIES, Drainer
from kiebot.intake.ports import RawUpdate
from kiebot.settings import Settings
from kiebot.storage.claims import DEAD_AFTER_S
from kiebot.storage.generations import _AHEAD, _TYPICAL
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.sweeps import _EXPIRED
from kiebot.storage.transaction import Database, Transaction
from kiebot.store import Store, Tx
from kiebot.sweepers import Heartbeat
from kiebot.wakeups import Wakeup
from tests.faults.conftest import ShakyStore

LANE = "42/c1"


class Silent:
    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


class Handler:
    """Remembers what it handled; `does` runs instead for the update of that number."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.does: dict[int, Callable[[Transaction], Awaitable[None]]] = {}

    async def handle(self, tx: Tx, payload: bytes) -> list[Draft]:
        number = json.loads(payload)["update_id"]
        if number in self.does:
            assert isinstance(tx, Transaction)
            await self.does[number](tx)
        self.handled.append(number)
        return []

    def press_of(self, payload: bytes) -> str | None:
        return None

    async def apologise(self, tx: Tx, payload: bytes, error_id: str) -> list[Draft]:
        return []

    async def too_fast(self, tx: Tx, payload: bytes) -> list[Draft]:
        return []


class Nobody:
    def answer_press(self, callback_query_id: str) -> None:
        return

    async def send_claimed(self, rows: Sequence[Row]) -> None:
        return


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    return Database(engine, Silent())


async def _living(database: Database) -> UUID:
    owner = uuid4()
    async with database.transaction() as tx:
        await tx.replicas.beat(owner, "r", {})
    return owner


async def _receive(engine: AsyncEngine, chat: int, *numbers: int) -> None:
    updates = [RawUpdate(n, f"c{chat}", json.dumps({"update_id": n}).encode()) for n in numbers]
    await PostgresInbox(engine, 42).record(updates, token=None)


async def _drain_until_buried(database: Database, engine: AsyncEngine, handler: Handler) -> None:
    drainer = Drainer(database, handler, Nobody(), await _living(database), SystemClock())
    for _ in range(MAX_TRIES + 1):
        await asyncio.gather(drainer.drain(LANE), return_exceptions=True)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE inbox SET next_at = now() WHERE done_at IS NULL"))


async def test_an_update_whose_statement_always_times_out_is_buried(database: Database, engine: AsyncEngine) -> None:
    async def too_slow(tx: Transaction) -> None:
        await tx.connection.execute(text("SET LOCAL statement_timeout = '20ms'"))
        await tx.connection.execute(text("SELECT pg_sleep(1)"))

    handler = Handler()
    handler.does[1] = too_slow
    await _receive(engine, 1, 1, 2)
    await _drain_until_buried(database, engine, handler)
    assert handler.handled == [2], "57014 is the statement's own fault, not an outage"


async def test_a_blink_of_postgres_at_the_release_does_not_hold_the_lane_for_minutes(
    database: Database, engine: AsyncEngine
) -> None:
    handler, store = Handler(), ShakyStore(database)
    owner = await _living(database)
    await _receive(engine, 1, 1)
    store.refuse = {3}  # 1: claim, 2: handle, 3: release
    shaky: Store = store
    await asyncio.gather(Drainer(shaky, handler, Nobody(), owner, SystemClock()).drain(LANE), return_exceptions=True)
    await _receive(engine, 1, 2)
    await asyncio.sleep(0.5)
    await Drainer(database, handler, Nobody(), owner, SystemClock()).drain(LANE)
    assert handler.handled == [1, 2]


async def test_a_busy_pool_does_not_stop_the_heart(shared_database_url: str, database: Database) -> None:
    """Jobs that wait for locks hold connections; a replica that lives must not lose its claims for it."""
    values = {
        "telegram_bot_token": f"42:{'a' * 35}",
        "kie_api_key": "k" * 12,
        "database_url": shared_database_url,
        "db_pool_size": 2,
    }
    settings = Settings.model_validate(values)
    adapters = Adapters(settings, Stores(shared_database_url, "redis://127.0.0.1:9", "redis://127.0.0.1:9", ""))
    busy = adapters.engine
    incarnation = uuid4()
    heart = Heartbeat(Database(adapters.pulse, Silent()), SystemClock(), incarnation, "r", dict)
    await heart.beat()

    async def job() -> None:
        async with busy.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(:s)"), {"s": DEAD_AFTER_S + 1.5})

    jobs = [asyncio.create_task(job()) for _ in range(2)]
    await asyncio.sleep(0.2)
    beating = asyncio.create_task(heart.run())
    await asyncio.sleep(DEAD_AFTER_S + 0.5)
    async with database.transaction() as tx:
        (seen,) = [each for each in await tx.replicas.seen() if each.id == incarnation]
    beating.cancel()
    await asyncio.gather(*jobs, beating, return_exceptions=True)
    await adapters.close()
    assert seen.age_s < DEAD_AFTER_S


async def test_one_full_lane_does_not_hide_others_from_the_sweeper(database: Database, engine: AsyncEngine) -> None:
    owner = await _living(database)
    await _receive(engine, 1, *range(1, 202))
    await _receive(engine, 2, 1000)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE inbox SET next_at = now() - interval '1 minute' + id * interval '1 ms'"))
    async with database.transaction() as tx:
        assert await tx.lanes.claim(LANE, owner, most=10) is not None  # somebody works it off, slowly
    async with database.transaction() as tx:
        found = await tx.sweeps.stranded_lanes(grace_s=2.0)
    assert [drain.lane for drain in found] == ["42/c2"]


async def test_the_search_for_expired_holds_does_not_read_every_hold_ever_made(engine: AsyncEngine) -> None:
    """It shares a transaction with the purge: once it takes longer than the statement timeout, nothing is purged."""
    async with engine.begin() as connection:
        for statement in (
            "INSERT INTO accounts (key) VALUES ('wallet:7') ON CONFLICT DO NOTHING",
            """INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state,
                cost_millicredits, price_millicredits, is_maximum, finished_at)
               SELECT gen_random_uuid(), n::text, 7, 7, 'z-image', '{}', 'en', 'succeeded', 1, 1, false, now()
               FROM generate_series(1, 20000) AS n""",
            """INSERT INTO holds (generation_id, account, amount, expires_at)
               SELECT id, 'wallet:7', 0, now() - interval '30 days' FROM generations""",
            "INSERT INTO settlements (generation_id, outcome, amount) SELECT generation_id, 'voided', 0 FROM holds",
        ):
            await connection.execute(text(statement))
        await connection.execute(text("ANALYZE generations, holds, settlements"))
        plan = await connection.execute(text(f"EXPLAIN {_EXPIRED.text.replace(':most', '50')}"))
        lines = [row[0] for row in plan]
        await connection.rollback()
    assert not any("Seq Scan on holds" in line for line in lines), "\n".join(lines)


async def test_a_card_does_not_read_every_generation_ever_made(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("""INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state,
                cost_millicredits, price_millicredits, is_maximum, finished_at)
               SELECT gen_random_uuid(), n::text, 7, 7, 'z-image', '{}', 'en', 'succeeded', 1, 1, false, now()
               FROM generate_series(1, 20000) AS n""")
        )
        await connection.execute(text("ANALYZE generations"))
        read: list[str] = []
        for query, value in ((_AHEAD, str(uuid4())), (_TYPICAL, "a-rare-model")):
            name = "id" if query is _AHEAD else "model_id"
            plan = await connection.execute(text(f"EXPLAIN {query.text.replace(f':{name}', repr(value))}"))
            read += [row[0] for row in plan]
        await connection.rollback()
    lines = "\n".join(read)
    assert "Seq Scan on generations" not in lines and "uq_generations_number" not in lines, lines
