"""Brings the schema to its newest version, once, under a lock; tells which version a database has.

Alembic is imported here only, and only when asked: no replica needs it to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.storage.engine import outages_as_transient

if TYPE_CHECKING:
    from alembic.config import Config

LOCK = 0x6B6965626F74  # one number for all replicas of all versions: "kiebot" in ASCII
HEAD = "0009"  # the version this code needs; a test holds it equal to the newest script


async def migrate(engine: AsyncEngine) -> str:
    """Run what is missing; waits while another migrates. Returns the version the schema has now."""
    with outages_as_transient("migrate"):
        async with engine.connect() as connection:
            await connection.execute(text("SET lock_timeout = 0"))
            await connection.execute(text("SET statement_timeout = 0"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            await connection.run_sync(_upgrade)
            await connection.commit()
            return await _version(connection) or ""


async def schema_version(engine: AsyncEngine) -> str | None:
    """The version of the database's schema; None when there is none."""
    with outages_as_transient("schema"):
        async with engine.connect() as connection:
            return await _version(connection)


async def _version(connection: AsyncConnection) -> str | None:
    exists = await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    if not exists:
        return None
    version: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _upgrade(connection: Connection) -> None:
    from alembic import command

    command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
