"""A command's own short look into the database, and its dry run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import click

from kiebot.bootstrap import Stores, open_stores
from kiebot.errors import Transient
from kiebot.settings import load_settings
from kiebot.storage.engine import close_engine, make_engine
from kiebot.storage.migrate import HEAD, schema_version
from kiebot.storage.transaction import Database, Transaction
from kiebot.wakeups import Wakeup

T = TypeVar("T")
USER_ID = click.IntRange(1, 2**52 - 1)  # what Telegram gives to users


class NoQueue:
    """Wakes nobody: what a command leaves to be done, the replicas' sweepers find within seconds."""

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


class _NotMeant(Exception):
    """Ends a dry run's transaction."""


@asynccontextmanager
async def opened(stores: Stores, *, application: str) -> AsyncIterator[Database]:
    """Raises: click.ClickException, when the schema is older than this version's, as a replica waits for it."""
    engine = make_engine(stores.database_url, pool_size=2, application=application)
    try:
        version = await schema_version(engine)
        if version is None or version < HEAD:
            has = f"the database has schema {version}" if version else "the database has no schema"
            raise click.ClickException(f"{has}, this version needs {HEAD}: run `kiebot migrate` first")
        yield Database(engine, NoQueue())
    finally:
        await close_engine(engine)


@asynccontextmanager
async def decided(database: Database, *, dry_run: bool) -> AsyncIterator[Transaction]:
    """A transaction; in a dry run all of it is done, and none of it stays."""
    with suppress(_NotMeant):
        async with database.transaction() as tx:
            yield tx
            if dry_run:
                raise _NotMeant


def with_database(action: Callable[[Database], Awaitable[T]], *, application: str) -> T:
    """Open the stores of the settings for one action. An outage ends the command with status 1 and its reason."""
    stores = open_stores(load_settings())

    async def run() -> T:
        async with opened(stores, application=application) as database:
            return await action(database)

    try:
        return asyncio.run(run())
    except Transient as error:
        raise click.ClickException(str(error)) from None
    finally:
        stores.close()
