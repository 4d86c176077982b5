"""The connection pool, and the translation of the database's errors into ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import asyncpg
import structlog
from sqlalchemy import URL, Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from kiebot.errors import Transient

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 20
RETRY_SQLSTATES = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available

log = structlog.get_logger()
_opened: MutableMapping[Engine, WeakSet[asyncpg.Connection]] = WeakKeyDictionary()  # what each open engine connected


def make_engine(database_url: str, *, pool_size: int = 10, application: str = "kiebot") -> AsyncEngine:
    """An engine on asyncpg with bounded waits everywhere: connecting, getting a connection, each statement.

    database_url: any postgresql:// URL, a unix socket as `?host=/dir`; `sslmode` is understood.
    """
    url, ssl = _driver_url(database_url)
    settings = {
        "application_name": application,
        "statement_timeout": str(STATEMENT_TIMEOUT_S * 1000),
        "lock_timeout": "10000",
        "idle_in_transaction_session_timeout": "30000",
        "jit": "off",
    }
    connect_args: dict[str, object] = {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": STATEMENT_TIMEOUT_S + 5,  # for a server that is stopped rather than slow
        "server_settings": settings,
    }
    if ssl:
        connect_args["ssl"] = ssl
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args=connect_args,
    )
    opened = _opened[engine.sync_engine] = WeakSet()

    @event.listens_for(engine.sync_engine, "do_connect")
    def refuse_when_closed(*_: object) -> None:
        if engine.sync_engine not in _opened:
            raise ConnectionAbortedError("the engine is closed")

    @event.listens_for(engine.sync_engine, "connect")
    def note(connection: Any, _: object) -> None:
        opened.add(connection.driver_connection)

    return engine


async def close_engine(engine: AsyncEngine, *, within_s: float = 2.0) -> None:
    """Say goodbye to the server, and break within `within_s` seconds whatever is still open: a frozen server answers
    no goodbye, and a connection in the hands of a task that was cut off is in no pool's list. Whatever still wants to
    write finds the database out of reach. Never raises.
    """
    opened = _opened.pop(engine.sync_engine, WeakSet())
    try:
        async with asyncio.timeout(within_s):
            await engine.dispose()
    except Exception as error:
        log.info("database.closed_roughly", error=type(error).__name__)
    for connection in list(opened):
        for request in tuple(getattr(connection, "_cancellations", ())):
            request.cancel()  # asyncpg's own request to end a query waits for a frozen server without an end
        if not connection.is_closed():
            connection.terminate()
    for _ in range(3):  # a broken connection's socket is closed by the event loop, in its next rounds
        await asyncio.sleep(0)


def _driver_url(database_url: str) -> tuple[URL, str | None]:
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    ssl = url.query.get("sslmode")
    return url.difference_update_query(["sslmode"]), ssl if isinstance(ssl, str) else None


async def ping(engine: AsyncEngine) -> None:
    """One round trip. Raises whatever keeps the database from answering."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def is_outage(error: BaseException) -> bool:
    """Whether the database itself was out of reach (or asked us to try again), so that nothing was decided."""
    if isinstance(error, (PoolTimeout, OSError, TimeoutError)):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_outage_cause(error.orig)
    return isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError) and is_outage_cause(error)


def is_outage_cause(cause: BaseException | None) -> bool:
    inner = getattr(cause, "__cause__", None) or cause
    if isinstance(inner, asyncpg.PostgresError):
        state = inner.sqlstate or ""
        # 57P..: the server goes away. 57014 is no outage: this very statement took too long, and will again.
        return state in RETRY_SQLSTATES or state[:2] in ("08", "53") or state.startswith("57P")
    return isinstance(inner, (asyncpg.InterfaceError, OSError, TimeoutError))


@contextmanager
def outages_as_transient(what: str) -> Iterator[None]:
    """Raise Transient for an outage, so that callers wait instead of giving up. Other errors pass."""
    try:
        yield
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        if is_outage(error):
            raise Transient(f"{what}: the database is out of reach", retry_after_s=0.5) from error
        raise
