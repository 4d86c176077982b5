"""Hosts a replica inside arq's own worker, and keeps that worker from touching anything itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arq.connections import RedisSettings

from kiebot.jobs.keys import QueueKeys

EXIT_CONFIGURATION = 78


def queue() -> str:
    """The queue's name, for arq's own tools."""
    return QueueKeys(os.environ.get("REDIS_PREFIX") or "kiebot").queue


def check_address() -> RedisSettings:
    """Where `arq --check` looks for the health key: REDIS_URL, else this home's embedded store if one runs."""
    url = os.environ.get("REDIS_URL") or _from_file() or _embedded()
    return RedisSettings.from_dsn(url) if url else RedisSettings(conn_retries=0)


def _from_file() -> str | None:
    path = os.environ.get("REDIS_URL_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else None
    except OSError:
        return None


def _embedded() -> str | None:
    from kiebot.engines import status

    home = Path(os.environ.get("KIEBOT_HOME") or "~/.local/share/kiebot").expanduser()
    return status(home).redis_url


class IdlePool:
    """Stands where the stock worker wants a connection. It answers the few calls made around `on_startup`.

    So a replica starts, waits and stops in order although Redis may be away: only the replica itself decides.
    """

    default_queue_name = "unused"

    def pipeline(self, transaction: bool = True) -> Self:
        return self

    def info(self, section: str) -> None:
        return

    def dbsize(self) -> None:
        return

    async def execute(self) -> list[Any]:
        return [{}, {}, {}, 0]

    async def delete(self, *_: str) -> None:
        return

    async def close(self, close_connection_pool: bool | None = None) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


async def host_replica() -> None:
    """Run one replica. arq's SIGTERM cancels us: the first asks the replica to drain, the second to leave at once.

    Raises: CancelledError once it has stopped as asked; SystemExit with the replica's status otherwise.
    """
    from kiebot.bootstrap import open_stores
    from kiebot.observe.logs import redact_values
    from kiebot.replica import Replica, set_up_logs
    from kiebot.settings import ConfigurationError, load_settings

    try:
        settings = load_settings()
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"configuration: {problem}\n")
        raise SystemExit(EXIT_CONFIGURATION) from None
    set_up_logs(settings)  # again after arq's command has configured logging its own way
    stores = await asyncio.to_thread(open_stores, settings)
    redact_values(stores.secrets)
    try:
        await _until_stopped(Replica(settings, stores))
    finally:
        stores.close()


async def _until_stopped(replica: Any) -> None:
    running = asyncio.create_task(replica.run())
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise
            cancelled = True
            replica.request_stop()
    status = running.result()
    if cancelled and status == 0:
        raise asyncio.CancelledError  # arq takes this for the stop it asked for; else it would begin to poll
    raise SystemExit(status)
