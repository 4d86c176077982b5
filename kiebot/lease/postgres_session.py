"""One session of Postgres, never pooled and never repaired: a session-level lock lives and dies with it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg

from kiebot.keepalive import noticed_soon
from kiebot.lease.protocol import StoreUnreachable

_ENDED = ("57P01", "57P02", "57P05", "08003", "08006")  # told to go, or gone
_UNNAMED = ("26000", "42P05")  # a statement prepared in one session was looked for in another
_LIBRARY_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)

# Both calls look at one advisory lock, $1, in the way pg_locks spells it.
_OWN_LOCK = """
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = (($1::bigint >> 32) & 4294967295)::oid AND objid = ($1::bigint & 4294967295)::oid
"""
_TAKE_TEST_LOCK = "SELECT pg_backend_pid() AS pid, pg_advisory_lock($1) IS NULL AS locked"
_STILL_THERE = f"SELECT pg_backend_pid() = $2 AND EXISTS ({_OWN_LOCK}) AS still"

_POOLER = (
    "the lease needs a session of Postgres for itself, and here a pooler shares sessions between clients: in LEASE_URL "
    "name the direct address of Postgres (or a pooler in session mode), or another store (redis://, file://)"
)
_REFUSED_SETTING = "unsupported startup parameter"  # PgBouncer's words, whatever its mode
_PICKY = (
    "a pooler in front of Postgres refuses a setting of the lease's session; in LEASE_URL name the direct address of "
    "Postgres, or let a pooler in session mode ignore the setting (ignore_startup_parameters)"
)


class PoolerInBetween(StoreUnreachable):
    """Every lock would be taken by a session that the next client uses too. The text names the fix."""

    def __init__(self) -> None:
        super().__init__(_POOLER)


class Session:
    """Any failure of a question, a cancelled wait included, ends the session, and with it every lock it held."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return not self._connection.is_closed()

    async def ask(self, query: str, *args: object) -> list[Any]:
        """Raises: what asyncpg raises; see `answered`."""
        async with self._lock:
            try:
                return list(await self._connection.fetch(query, *args))
            except BaseException:
                self.drop()
                raise

    async def listen(self, channel: str, heard: Callable[[], None]) -> None:
        """Call `heard` at every notification, and when the session ends."""
        try:
            self._connection.add_termination_listener(lambda *_: heard())
            await self._connection.add_listener(channel, lambda *_: heard())
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """End it without waiting for the other side, which frees its locks as soon as it notices."""
        self._connection.terminate()

    async def close(self, timeout_s: float) -> None:
        """End it politely, within the time."""
        with contextlib.suppress(*_LIBRARY_ERRORS, TimeoutError):
            await self._connection.close(timeout=timeout_s)


async def open_session(url: str, *, timeout_s: float) -> Session:
    """A new session in which no statement outlasts `timeout_s`, and whose dead peer is noticed within seconds.

    Raises: what asyncpg raises; see `answered`.
    """
    settings = {
        "application_name": "kiebot lease",
        "statement_timeout": str(max(1, int(timeout_s * 1000))),
        "lock_timeout": "0",
        "synchronous_commit": "off",  # a beat need not survive a crash, and must not wait for the disk
        "tcp_keepalives_idle": "3",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "6000",
    }
    connection = await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s, server_settings=settings)
    _keep_alive(connection)
    return Session(connection)


def _keep_alive(connection: Any) -> None:
    """Let the kernel find out that the server is gone. asyncpg offers no way to the socket, so it is taken from it."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in noticed_soon().items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def prove_it_is_ours(session: Session, open_another: Callable[[], Awaitable[Session]], timeout_s: float) -> None:
    """Take a lock of no meaning and see that a second client cannot end up in the session that holds it.

    The second client opens a transaction in between: a pooler that lends sessions per transaction then either gives it
    the very session of the first, or gives the first another one for its next statement.
    Raises: PoolerInBetween.
    """
    key = secrets.randbits(63)
    taken = (await session.ask(_TAKE_TEST_LOCK, key))[0]
    another = await open_another()
    try:
        await another.ask("BEGIN")
        other_pid = (await another.ask("SELECT pg_backend_pid() AS pid"))[0]["pid"]
        still = (await session.ask(_STILL_THERE, key, taken["pid"]))[0]["still"]
        for client in (session, another) if other_pid == taken["pid"] else (session,):
            await client.ask("SELECT pg_advisory_unlock($1)", key)
    finally:
        await another.close(timeout_s)
    if other_pid == taken["pid"] or not still:
        session.drop()
        raise PoolerInBetween


@contextlib.contextmanager
def answered(timeout_s: float) -> Iterator[None]:
    """The one place where the library's errors become ours. Raises: StoreUnreachable, with them as its cause."""
    try:
        yield
    except TimeoutError as error:
        raise StoreUnreachable(f"no answer within {timeout_s:g} s") from error
    except asyncpg.UndefinedTableError as error:
        raise StoreUnreachable(
            "no table lease_beats: LEASE_URL must name kiebot's database, after `kiebot migrate`"
        ) from error
    except _LIBRARY_ERRORS as error:
        if getattr(error, "sqlstate", None) in _UNNAMED:
            raise PoolerInBetween from error
        if _REFUSED_SETTING in str(error):
            raise StoreUnreachable(f"{str(error)[:200]}: {_PICKY}") from error
        raise StoreUnreachable(f"{type(error).__name__}: {str(error)[:200]}") from error


def has_ended(error: BaseException | None) -> bool:
    """Whether the session itself is over, as opposed to a question that had no answer."""
    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate in _ENDED
    if isinstance(error, asyncpg.InternalClientError):  # the server's farewell came while a question was being put
        return True
    return isinstance(error, ConnectionError) or (isinstance(error, asyncpg.InterfaceError) and "closed" in str(error))
