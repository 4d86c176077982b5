"""The checker names what is broken: one row spoilt per invariant, in a transaction that never commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.generation.effects import apply
from kiebot.generation.machine import Broke, Finished
from kiebot.generation.model import Order, Quoted
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.storage.transaction import Database
from kiebot.storage.verify import INVARIANTS, LOCK, breaches_in, verify, verify_unless_another_does

ANNA = 7

# Rows that no code wrote: a payment, and its way back.
PAID = """INSERT INTO payments (provider, charge_id, user_id, amount, currency, credits, language)
    VALUES ('stars', 'c', 7, 5, 'XTR', 500, 'en')"""
BACK = """INSERT INTO refunds (provider, charge_id, amount, taken, actor, reason)
    VALUES ('stars', 'c', 500, 100, 'x', 'y')"""

# What spoils each invariant. {open}, {won}, {lost}: a generation that is open, captured, voided.
SPOILT: dict[str, tuple[str, ...]] = {
    "every balance is the sum of its entries": (
        "UPDATE accounts SET available = available + 1 WHERE key = 'wallet:7'",
    ),
    "all accounts together are zero": ("UPDATE accounts SET available = available - 5 WHERE key = 'adjustments'",),
    "every posting has entries, and they are zero together": (
        "UPDATE entries SET delta_available = delta_available + 1 WHERE account = 'adjustments'",
        "INSERT INTO postings (key, kind, actor) VALUES ('grant:empty', 'grant', 'x')",
    ),
    "no wallet is negative": (
        "ALTER TABLE accounts DROP CONSTRAINT ck_accounts_wallet_available;"
        "UPDATE accounts SET available = -1 WHERE key = 'wallet:7'",
    ),
    "what is held is the sum of the open holds": (
        "UPDATE accounts SET held = held + 1 WHERE key = 'wallet:7'",
        "UPDATE accounts SET held = 1 WHERE key = 'promotions'",
    ),
    "a generation has a hold, and a settlement exactly when it has ended": (
        "UPDATE generations SET finished_at = NULL WHERE id = '{won}'",
        "UPDATE generations SET finished_at = now() WHERE id = '{open}'",
        "DELETE FROM settlements WHERE generation_id = '{lost}'",
        "DELETE FROM holds WHERE generation_id = '{open}'",
    ),
    "success is captured, failure is voided": (
        "UPDATE generations SET state = 'failed' WHERE id = '{won}'",
        "UPDATE generations SET state = 'succeeded' WHERE id = '{lost}'",
    ),
    "nothing is captured beyond its hold": (
        "UPDATE settlements SET amount = 1000000 WHERE generation_id = '{won}'",
        "UPDATE settlements SET amount = 1 WHERE generation_id = '{lost}'",
    ),
    "a hold is of its generation's price and owner, and has its posting": (
        "UPDATE generations SET price_millicredits = 1 WHERE id = '{open}'",
        "UPDATE generations SET user_id = 8 WHERE id = '{open}'",
        "DELETE FROM entries WHERE posting_key = 'hold:{open}'",
        "DELETE FROM holds WHERE generation_id = '{open}'",
    ),
    "a settlement has its posting, of its amount": (
        "UPDATE settlements SET amount = amount - 1 WHERE generation_id = '{won}'",
        "UPDATE postings SET kind = 'void' WHERE key = 'settle:{won}'",
        "UPDATE entries SET delta_held = delta_held + 1 WHERE posting_key = 'settle:{lost}'",
        "DELETE FROM postings WHERE key = 'settle:{won}'",
        "DELETE FROM settlements WHERE generation_id = '{won}'",
    ),
    "versions have no gaps": (
        "UPDATE accounts SET version = version + 1 WHERE key = 'wallet:7'",
        "UPDATE accounts SET version = 3 WHERE key = 'promotions'",
        "UPDATE entries SET version = version + 100 WHERE posting_key = 'hold:{open}'",
    ),
    "each entry carries the balance after it": (
        "UPDATE entries SET available_after = available_after + 1 WHERE posting_key = 'hold:{won}'",
    ),
    "no hold outlives its expiry": (
        "UPDATE holds SET expires_at = now() - interval '2 hours' WHERE generation_id = '{open}'",
    ),
    "a captured generation has its result decided, a voided one none that was charged": (
        "DELETE FROM outbox WHERE generation_id = '{won}'",
        "UPDATE outbox SET kind = 'result' WHERE generation_id = '{lost}'",
    ),
    "the counters of running and open ones are right": (
        "UPDATE accounts SET running = running + 1 WHERE key = 'wallet:7'",
        "UPDATE accounts SET open_count = open_count - 1 WHERE key = 'wallet:7'",
    ),
    "what was posted can not be changed": (
        "ALTER TABLE entries DISABLE TRIGGER entries_append_only",
        "DROP TRIGGER settlements_append_only ON settlements",
    ),
    "a payment has one posting, of what it bought, and no posting is without its payment": (
        PAID,
        "INSERT INTO postings (key, kind, actor) VALUES ('topup:stars:ghost', 'top_up', 'x')",
    ),
    "a payment goes back at most once, as a whole": (f"{PAID};{BACK.replace('500', '400')}",),
    "a refund has its postings, and no posting is without its refund": (
        f"{PAID};{BACK}",
        "INSERT INTO postings (key, kind, actor) VALUES ('refund:999', 'refund', 'x')",
    ),
    "what is owed, set aside and left with a provider is explained by payments and refunds": (
        "UPDATE accounts SET available = available + 1 WHERE key = 'receivable'",
        "UPDATE accounts SET available = available + 1 WHERE key = 'refunds'",
        PAID,
    ),
}


async def a_generation(database: Database) -> UUID:
    order = Order(uuid4(), str(uuid4()), ANNA, 1, "m", {}, Quoted(500, 1000, is_maximum=True), "en")
    async with database.transaction() as tx:
        return (await accept(tx, order, Limits())).id


@pytest.fixture
async def books(database: Database) -> dict[str, UUID]:
    """A wallet that has lived: a grant, one generation captured in part, one voided, one open."""
    async with database.transaction() as tx:
        await tx.ledger.grant("g1", ANNA, 50_000, reason="test", actor="tester")
    named = {name: await a_generation(database) for name in ("won", "lost", "open")}
    async with database.transaction() as tx:
        await apply(tx, named["won"], Finished(("http://x/1.png",), cost_millicredits=300))
        await apply(tx, named["lost"], Broke("server"))
    return named


_FOREIGN_KEYS = text(
    "SELECT conrelid::regclass || ' DROP CONSTRAINT ' || conname FROM pg_constraint WHERE contype = 'f'"
)
_HARMLESS = "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"


@asynccontextmanager
async def unguarded(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which no trigger and no foreign key refuses anything; rolled back in the end."""
    async with engine.connect() as connection:
        for key in (await connection.scalars(_FOREIGN_KEYS)).all():
            await connection.execute(text(f"ALTER TABLE {key}"))
        await connection.execute(text(_HARMLESS))
        yield connection
        await connection.rollback()


async def test_books_that_are_right_have_no_breach(engine: AsyncEngine, books: dict[str, UUID]) -> None:
    assert await verify(engine) == []
    async with engine.connect() as connection:
        assert await breaches_in(connection) == []


def test_every_invariant_is_spoilt_here() -> None:
    assert set(SPOILT) == set(INVARIANTS)


async def test_a_spoilt_row_is_named_by_its_invariant(engine: AsyncEngine, books: dict[str, UUID]) -> None:
    missed = []
    async with unguarded(engine) as connection:
        assert await breaches_in(connection) == []
        for invariant, statements in SPOILT.items():
            for statement in statements:
                savepoint = await connection.begin_nested()
                for part in statement.format(**books).split(";"):
                    await connection.execute(text(part))
                found = {breach.invariant: breach.rows for breach in await breaches_in(connection)}
                await savepoint.rollback()
                if not found.get(invariant):
                    missed.append(f"{statement}: only {sorted(found)}")
    assert missed == []


async def test_one_replica_checks_at_a_time(engine: AsyncEngine, books: dict[str, UUID]) -> None:
    async with engine.connect() as other:
        await other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        assert await verify_unless_another_does(engine) is None
    assert await verify_unless_another_does(engine) == []
