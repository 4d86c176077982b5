"""`kiebot up`: one command for real tokens."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from kiebot.bootstrap import Stores, open_stores
from kiebot.cluster import Cluster, Member
from kiebot.engines import EngineError
from kiebot.observe import logs
from kiebot.settings import Settings, load_settings
from kiebot.storage.engine import close_engine, make_engine
from kiebot.storage.migrate import migrate


@click.command()
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(1, 50))
def up(replicas: int) -> None:
    """Start the stores if none are given, migrate, run N replicas and start again whichever dies."""
    settings = load_settings()
    logs.install(level=settings.log_level, log_format=settings.log_format, secrets=settings.secret_values())
    try:
        stores = open_stores(settings)
        logs.redact_values(stores.secrets)
    except EngineError as error:
        raise click.ClickException(str(error)) from None
    try:
        status = asyncio.run(_up(settings, stores, replicas))
    finally:
        stores.close()
    sys.exit(status)


async def _up(settings: Settings, stores: Stores, replicas: int) -> int:
    click.echo(f"stores: {stores.described}")
    engine = make_engine(stores.migrate_url, pool_size=1, application="kiebot up")
    click.echo(f"schema: version {await migrate(engine)}")
    await close_engine(engine)
    cluster = Cluster([_member(settings, number) for number in range(replicas)])
    click.echo(f"replicas: {', '.join(cluster.members)}")
    running = asyncio.create_task(cluster.keep_running())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        asked.cancel()
        return running.result()
    await cluster.stop_all(grace_s=settings.shutdown_grace_s + 5.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return 0


def _member(settings: Settings, number: int) -> Member:
    """Each replica has a name; the first one has the web server, when there is a port."""
    environment = {"REPLICA_ID": f"{settings.replica_id}-{number}"}
    if number > 0:
        environment["PORT"] = ""
    return Member(environment["REPLICA_ID"], environment)
