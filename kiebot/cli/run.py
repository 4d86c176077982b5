"""`kiebot run`: one replica in the foreground."""

from __future__ import annotations

import asyncio
import sys

import click

from kiebot.bootstrap import Stores, open_stores
from kiebot.engines import EngineError
from kiebot.observe.logs import redact_values
from kiebot.replica import Replica, set_up_logs
from kiebot.settings import Settings, load_settings


@click.command()
def run() -> None:
    """Run one replica until SIGTERM or SIGINT; a second one leaves at once."""
    settings = load_settings()
    set_up_logs(settings)
    try:
        stores = open_stores(settings)
        redact_values(stores.secrets)
    except EngineError as error:
        raise click.ClickException(str(error)) from None
    try:
        status = asyncio.run(_replica(settings, stores))
    finally:
        stores.close()
    sys.exit(status)


async def _replica(settings: Settings, stores: Stores) -> int:
    return await Replica(settings, stores).run_with_signals()
