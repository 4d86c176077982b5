"""Holds per second: through the repository, against the very same SQL sent by bare asyncpg.

Both sides run the one statement of a hold, each in a transaction of its own, over the same number of connections to the
same server with fsync, in turns. In between stands SQLAlchemy without the repository, and at last the whole purchase
(`accept`), which also writes the generation and its card. What the repository sends is overheard: it is the same SQL.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.rig.report import ratio, spread, table
from benchmarks.rig.stage import House
from kiebot.generation.model import Order, Quoted
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.ids import hold_key, wallet_of
from kiebot.storage.engine import make_engine
from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup

CONNECTIONS = 8
USERS = 200
HOLDS = 400  # per variant and round
PRICE = 1000
MOST_OPEN = 1_000_000


class NoQueue:
    """Nobody is woken."""

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


@dataclass(frozen=True)
class Overheard:
    """What the repository sent for one hold, as the driver got it."""

    sql: str
    sample: tuple[object, ...]
    generation_id: UUID
    user: int

    def facts(self, generation_id: UUID, user: int) -> tuple[object, ...]:
        """The same parameters for another hold."""
        changed = {
            self.generation_id: generation_id,
            hold_key(self.generation_id): hold_key(generation_id),
            wallet_of(self.user): wallet_of(user),
        }
        return tuple(changed.get(value, value) for value in self.sample)


@dataclass(frozen=True)
class Shop:
    """The same database by both roads."""

    engine: AsyncEngine
    pool: asyncpg.Pool
    database: Database
    hold: Overheard


Buy = Callable[[Shop, UUID, int], Awaitable[None]]


async def bare(shop: Shop, generation_id: UUID, user: int) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await connection.fetchval(shop.hold.sql, *shop.hold.facts(generation_id, user))


async def by_sqlalchemy(shop: Shop, generation_id: UUID, user: int) -> None:
    async with shop.engine.begin() as connection:
        await connection.exec_driver_sql(shop.hold.sql, shop.hold.facts(generation_id, user))


async def by_repository(shop: Shop, generation_id: UUID, user: int) -> None:
    async with shop.database.transaction() as tx:
        await tx.ledger.hold(generation_id, user, PRICE, max_open=MOST_OPEN)


async def whole_purchase(shop: Shop, generation_id: UUID, user: int) -> None:
    order = Order(generation_id, str(generation_id), user, user, "z-image", {}, Quoted(500, PRICE), "en")
    async with shop.database.transaction() as tx:
        await accept(tx, order, Limits(open=MOST_OPEN))


VARIANTS: dict[str, Buy] = {
    "bare asyncpg": bare,
    "SQLAlchemy alone": by_sqlalchemy,
    "repository": by_repository,
    "whole purchase": whole_purchase,
}


async def compare(house: House, rounds: int) -> dict[str, list[float]]:
    """Holds per second by variant, round by round."""
    url = await house.database("bench_holds")
    engine = make_engine(url, pool_size=CONNECTIONS, application="benchmark")
    parts = make_url(url)
    pool = await asyncpg.create_pool(
        host=str(parts.query["host"]),
        port=int(str(parts.query.get("port") or parts.port or 5432)),
        user=parts.username,
        password=parts.password,
        database=parts.database,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
    )
    database = Database(engine, NoQueue())
    await _fill_wallets(engine)
    shop = Shop(engine, pool, database, await _overheard(engine, database))
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):  # the first is for the caches of all sides
        for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
            per_s = await _per_second(shop, name)
            if number:
                found[name].append(per_s)
    _print(found)
    await pool.close()
    await engine.dispose()
    return found


async def _overheard(engine: AsyncEngine, database: Database) -> Overheard:
    """The last statement of a hold that the repository makes."""
    heard: list[tuple[str, tuple[object, ...]]] = []

    def note(_: object, __: object, statement: str, parameters: tuple[object, ...], *___: object) -> None:
        if "INSERT INTO holds" in statement:
            heard.append((statement, parameters))

    generation_id = uuid4()
    await _generations(engine, [generation_id])
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with database.transaction() as tx:
        await tx.ledger.hold(generation_id, 0, PRICE, max_open=MOST_OPEN)
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    ((statement, parameters),) = heard
    return Overheard(statement, parameters, generation_id, 0)


async def _fill_wallets(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for user in range(USERS):
            await connection.execute(
                text("INSERT INTO accounts (key, available) VALUES (:key, 1000000000)"), {"key": wallet_of(user)}
            )


async def _per_second(shop: Shop, name: str) -> float:
    buy, ids = VARIANTS[name], [uuid4() for _ in range(HOLDS)]
    if buy is not whole_purchase:
        await _generations(shop.engine, ids)
    work = iter(enumerate(ids))

    async def buyer() -> None:
        for place, generation_id in work:
            await buy(shop, generation_id, place % USERS)

    began = time.perf_counter()
    await asyncio.gather(*(buyer() for _ in range(CONNECTIONS)))
    return HOLDS / (time.perf_counter() - began)


async def _generations(engine: AsyncEngine, ids: list[UUID]) -> None:
    """A hold belongs to a generation; the bare statement writes none."""
    async with engine.begin() as connection:
        await connection.execute(
            text("""
                INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state,
                    cost_millicredits, price_millicredits, is_maximum)
                SELECT id, id::text, 1, 1, 'm', '{}', 'en', 'accepted', 500, 1000, false
                FROM unnest(CAST(:ids AS uuid[])) AS id
            """),
            {"ids": ids},
        )


def _print(found: dict[str, list[float]]) -> None:
    baseline = found["bare asyncpg"]
    rows = []
    for name, values in found.items():
        each_ms = [CONNECTIONS * 1000 / value for value in values]
        rows.append([name, spread(values), ratio(values, baseline), spread(each_ms, 2)])
    table(
        f"Holds over {CONNECTIONS} connections, {USERS} wallets, {HOLDS} per round",
        ["", "per second", "x bare", "ms each"],
        rows,
    )
