from __future__ import annotations

from uuid import uuid4

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.ledger.entries import Contra, revenue_of
from kiebot.storage.migrate import HEAD, alembic_config, migrate, schema_version
from kiebot.storage.models import CONTRA_ACCOUNTS, metadata


def test_the_version_the_code_needs_is_the_newest_script() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]


async def test_the_migrations_make_exactly_the_declared_schema(engine: AsyncEngine) -> None:
    def difference(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []


async def test_migrating_again_changes_nothing(engine: AsyncEngine) -> None:
    assert await migrate(engine) == HEAD
    assert await schema_version(engine) == HEAD


async def test_the_migrations_open_every_account_of_the_house(database_url: str) -> None:
    from kiebot.storage.engine import make_engine

    fresh = make_engine(database_url, pool_size=1)
    async with fresh.connect() as connection:
        keys = set(await connection.scalars(text("SELECT key FROM accounts")))
    await fresh.dispose()
    assert keys == set(CONTRA_ACCOUNTS)
    assert {Contra.PROMOTIONS, Contra.ADJUSTMENTS, revenue_of(uuid4())} <= keys
