"""`kiebot migrate`, `status`, `config`: the stores and what is in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import click

from kiebot.bootstrap import Stores, open_stores
from kiebot.errors import Transient
from kiebot.settings import Settings, describe, load_settings
from kiebot.status import Status, read_status
from kiebot.storage.engine import close_engine, make_engine
from kiebot.storage.migrate import migrate


@click.command("migrate")
def migrate_command() -> None:
    """Bring the schema up to date, once, under a lock. Safe to run at any time, from anywhere."""
    stores = open_stores(load_settings())
    try:
        version = asyncio.run(_migrate(stores))
    except Transient as error:
        raise click.ClickException(str(error)) from None
    finally:
        stores.close()
    click.echo(f"schema version {version}")


async def _migrate(stores: Stores) -> str:
    engine = make_engine(stores.migrate_url, pool_size=1, application="kiebot migrate")
    try:
        return await migrate(engine)
    finally:
        await close_engine(engine)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(as_json: bool) -> None:
    """Who leads since when, which replicas live, how much waits."""
    settings = load_settings()
    stores = open_stores(settings)
    try:
        found = asyncio.run(_status(settings, stores))
    except Transient as error:
        raise click.ClickException(str(error)) from None
    finally:
        stores.close()
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else found.as_text())


async def _status(settings: Settings, stores: Stores) -> Status:
    engine = make_engine(stores.database_url, pool_size=2, application="kiebot status")
    try:
        return await read_status(engine, stores.lease_url, settings.redis_prefix, settings.bot_id)
    finally:
        await close_engine(engine)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
def config(as_json: bool) -> None:
    """What is set. Secrets are masked."""
    rows = describe(load_settings())
    if as_json:
        values: Mapping[str, str] = {name: value for name, value, _ in rows}
        click.echo(json.dumps(values, indent=2))
        return
    width = max(len(name) for name, _, _ in rows)
    for name, value, meaning in rows:
        click.echo(f"{name:<{width}}  {value:<28}  {meaning}")
