"""The connection pool, and the translation of the database's errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from kiebot.errors import Transient

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 20
RETRY_SQLSTATES = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available


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
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args=connect_args,
    )


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
