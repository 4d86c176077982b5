"""A command's own short look into the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from kiebot.bootstrap import open_stores
from kiebot.errors import Transient
from kiebot.settings import load_settings
from kiebot.storage.engine import make_engine
from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup

T = TypeVar("T")


class NoQueue:
    """Wakes nobody: what a command leaves to be done, the replicas' sweepers find within seconds."""

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


def with_database(action: Callable[[Database], Awaitable[T]], *, application: str) -> T:
    """Open the stores of the settings for one action. An outage ends the command with status 1 and its reason."""
    stores = open_stores(load_settings())

    async def run() -> T:
        engine = make_engine(stores.database_url, pool_size=2, application=application)
        try:
            return await action(Database(engine, NoQueue()))
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except Transient as error:
        raise click.ClickException(str(error)) from None
    finally:
        stores.close()
