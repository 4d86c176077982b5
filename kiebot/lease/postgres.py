"""The lease in Postgres: a session-level advisory lock, a heartbeat row beside it, a doorbell.

The lock has no expiry: the server frees it when the holder's session ends, which a killed process, a lost network
(keepalives) or a dropped connection all bring about. The session **is** the term; it is never pooled and never
repaired. What a lock cannot tell is whether its holder still runs: a frozen process keeps its session for ever. So the
holder beats in the table `lease_beats`, and a standby that sees no new beat for a TTL *of its own clock* may seize: it
has the server end that very session, if the row still carries the token judged dead, and then takes the lock as anybody
would.

One statement takes the lock and writes the row, one gives both back, so nobody ever finds a lock without its owner's
name. A replica has at most two sessions here: one that asks, which becomes the term's own when it wins, and one that
listens at the doorbell. Standbys look at the lock every 200 ms; a waiter blocked in the lock itself would hear of a
crash a little sooner, but would hold the lease before it could say so.

A pooler that lends sessions per transaction would elect everybody: the first question of a process proves that there is
none (`prove_it_is_ours`). A read-only replica of the database grants nothing, as the row cannot be written there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

from kiebot.clock import Clock
from kiebot.lease.beat import BeatWatch
from kiebot.lease.postgres_bell import Doorbell
from kiebot.lease.postgres_session import Session, answered, has_ended, open_session, prove_it_is_ours
from kiebot.lease.protocol import Holder, Lease, StoreUnreachable

_RETRY_FIRST_S = 0.005
_RETRY_MOST_S = 0.05

# $1 is the row's name and $2 the lock's key in every statement.
_LOCKED = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = (($2::bigint >> 32) & 4294967295)::oid AND objid = ($2::bigint & 4294967295)::oid
"""
# $6 lists the tokens that may be replaced; null means any, for a lock that is free. No row: none of them stands there.
_TAKE = """
    WITH standing AS MATERIALIZED (
        SELECT WHERE $6::text[] IS NULL
            OR EXISTS (SELECT FROM lease_beats WHERE name = $1 AND token = ANY ($6::text[]))
    ), won AS MATERIALIZED (
        SELECT pg_try_advisory_lock($2) AS locked FROM standing
    ), wrote AS (
        INSERT INTO lease_beats (name, token, replica, pid, ttl_ms, beat_at, since)
        SELECT $1, $3, $4, pg_backend_pid(), $5, clock_timestamp(), clock_timestamp() FROM won WHERE locked
        ON CONFLICT (name) DO UPDATE SET token = excluded.token, replica = excluded.replica, pid = excluded.pid,
            ttl_ms = excluded.ttl_ms, beat_at = excluded.beat_at, since = excluded.since
            WHERE $6::text[] IS NULL OR lease_beats.token = ANY ($6::text[])
        RETURNING name
    )
    SELECT locked, EXISTS (SELECT FROM wrote) AS wrote FROM won
"""
_RENEW = f"""
    UPDATE lease_beats SET beat_at = clock_timestamp(), ttl_ms = $4
    WHERE name = $1 AND token = $3 AND pid = pg_backend_pid()
        AND EXISTS (SELECT FROM ({_LOCKED}) AS locked WHERE pid = pg_backend_pid())
    RETURNING name
"""  # noqa: S608  # put together from constants
_RELEASE = """
    WITH freed AS (
        UPDATE lease_beats SET token = NULL, rung_at = clock_timestamp()
        WHERE name = $1 AND token = $3 AND pid = pg_backend_pid() RETURNING name
    )
    SELECT pg_advisory_unlock($2) AS unlocked, pg_notify($4, '') FROM freed
"""
_HOLDER = f"""
    SELECT locked.pid, token, replica, ttl_ms, beat_at::text AS beat,
        extract(epoch FROM clock_timestamp() - beat_at)::float8 AS age_s
    FROM ({_LOCKED}) AS locked LEFT JOIN lease_beats b ON b.name = $1 AND b.pid = locked.pid AND token IS NOT NULL
"""  # noqa: S608  # put together from constants
_EVICT = f"""
    SELECT pg_terminate_backend(locked.pid) AS told
    FROM lease_beats b JOIN ({_LOCKED}) AS locked ON locked.pid = b.pid
    WHERE b.name = $1 AND b.token = $3 AND b.pid <> pg_backend_pid()
"""  # noqa: S608  # put together from constants


class _Bid(Enum):
    WON = "won"
    HELD = "held"
    MOVED_ON = "moved on"  # no token that we may replace stands there


@dataclass(frozen=True, slots=True)
class _Name:
    """One lease as the database knows it: its row, its lock's key, its channel."""

    row: str
    key: int
    channel: str

    @classmethod
    def of(cls, prefix: str, name: str) -> _Name:
        row = f"{prefix}:{name}"
        digest = hashlib.sha256(f"kiebot lease {row}".encode()).digest()
        return cls(row, int.from_bytes(digest[:8], signed=True), f"kiebot_lease_{digest.hex()[:32]}")


class PostgresLeaseStore:
    """One replica's view of the lease in Postgres. Needs the table of migration 0002 in the database of `url`."""

    def __init__(self, url: str, *, clock: Clock, prefix: str = "kiebot", call_timeout_s: float = 1.5) -> None:
        """Connects on first use."""
        self._url = url
        self._clock = clock
        self._prefix = prefix
        self._timeout_s = call_timeout_s
        self._asking: Session | None = None
        self._opening = asyncio.Lock()
        self._is_proven = False
        self._terms: dict[str, Session] = {}  # by token
        self._watches: dict[str, BeatWatch] = {}
        self._bells: dict[str, Doorbell] = {}

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        async with self._bounded():
            if token in self._terms and (held := await self._beat(name, replica, token, ttl_s)):
                return held
            lease, bid = await self._bid(name, replica, token, ttl_s, None)
            if bid is _Bid.HELD and await self._evict(name, token):  # ours, of a session whose answer was lost
                return await self._bid_until_decided(name, replica, token, ttl_s, [token])
            return lease if bid is _Bid.WON else None

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        async with self._bounded():
            return await self._beat(lease.name, lease.replica, lease.token, ttl_s)

    async def release(self, lease: Lease) -> None:
        session = self._terms.pop(lease.token, None)
        if session is None or not session.is_open:
            return  # the lock went with the session
        known = _Name.of(self._prefix, lease.name)
        async with self._bounded():
            if not await session.ask(_RELEASE, known.row, known.key, lease.token, known.channel):
                session.drop()  # the row is another's or gone: only the session's end surely frees the lock
        if self._asking is None and session.is_open:
            self._asking = session
        else:
            await session.close(self._timeout_s)

    async def holder(self, name: str) -> Holder | None:
        known = _Name.of(self._prefix, name)
        async with self._bounded():
            rows = await (await self._question()).ask(_HOLDER, known.row, known.key)
        if not rows:
            return None
        seen = rows[0]
        if seen["token"] is None:  # somebody else's lock under our key; no token of it can be seized
            return Holder(f"unknown (backend {seen['pid']})", "", float("inf"))
        watch = self._watches.setdefault(name, BeatWatch())
        left_s = watch.remaining(
            self._clock.monotonic(), (seen["token"], seen["beat"]), seen["ttl_ms"] / 1000, age_s=seen["age_s"]
        )
        return Holder(seen["replica"], seen["token"], left_s)

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        if name not in self._bells:
            known = _Name.of(self._prefix, name)
            self._bells[name] = Doorbell(known.row, known.channel, self._open, self._timeout_s)
        return await self._bells[name].wait(timeout_s)

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        async with self._bounded():
            if token in self._terms and (held := await self._beat(name, replica, token, ttl_s)):
                return held
            await self._evict(name, dead_token)
            return await self._bid_until_decided(name, replica, token, ttl_s, [dead_token, token])

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        known = _Name.of(self._prefix, name)
        async with self._bounded():
            rows = await (await self._question()).ask(_HOLDER, known.row, known.key)
        return any(row["token"] == token for row in rows)

    async def nudge(self, token: str) -> None:
        """Nobody to nudge: a lease in this store does not vanish under its holder."""

    async def wait_for_nudge(self, token: str) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        sessions = [*self._terms.values(), *filter(None, [self._asking])]
        self._terms.clear()
        self._asking = None
        await asyncio.gather(
            *(session.close(self._timeout_s) for session in sessions), *(bell.close() for bell in self._bells.values())
        )

    async def _beat(self, name: str, replica: str, token: str, ttl_s: float) -> Lease | None:
        """The lease anew, while this term's own session holds the lock and the row carries its token."""
        session = self._terms.get(token)
        if session is None:
            return None
        known = _Name.of(self._prefix, name)
        renewed = Lease(name, replica, token, self._clock.monotonic())
        try:
            with answered(self._timeout_s):
                proof = await session.ask(_RENEW, known.row, known.key, token, _ms(ttl_s))
        except StoreUnreachable as error:
            self._terms.pop(token, None)
            if has_ended(error.__cause__):
                return None
            raise
        if proof:
            return renewed
        self._terms.pop(token, None)
        session.drop()
        return None

    async def _bid_until_decided(
        self, name: str, replica: str, token: str, ttl_s: float, over: list[str]
    ) -> Lease | None:
        """Bid until the lock is ours, or another's token stands there; an ended session lets go within milliseconds."""
        pause_s = _RETRY_FIRST_S
        while True:
            lease, bid = await self._bid(name, replica, token, ttl_s, over)
            if bid is not _Bid.HELD:
                return lease if bid is _Bid.WON else None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MOST_S)

    async def _bid(
        self, name: str, replica: str, token: str, ttl_s: float, over: list[str] | None
    ) -> tuple[Lease, _Bid]:
        known = _Name.of(self._prefix, name)
        session = await self._question()
        lease = Lease(name, replica, token, self._clock.monotonic())
        rows = await session.ask(_TAKE, known.row, known.key, token, replica, _ms(ttl_s), over)
        if not rows:
            return lease, _Bid.MOVED_ON
        if not rows[0]["locked"]:
            return lease, _Bid.HELD
        if not rows[0]["wrote"]:  # the token changed under our hands: the lock is not for us
            session.drop()
            return lease, _Bid.MOVED_ON
        self._terms[token] = session  # from now on it serves this term only
        self._asking = None
        return lease, _Bid.WON

    async def _evict(self, name: str, token: str) -> bool:
        """Have the server end the session that holds the lock under this token. True when there was one."""
        known = _Name.of(self._prefix, name)
        return bool(await (await self._question()).ask(_EVICT, known.row, known.key, token))

    async def _question(self) -> Session:
        """The session that asks, opened when there is none."""
        async with self._opening:
            if self._asking is None or not self._asking.is_open:
                self._asking = await self._open()
            return self._asking

    async def _open(self) -> Session:
        """A new session; the first one of this process proves that sessions are what they seem."""
        session = await open_session(self._url, timeout_s=self._timeout_s)
        if not self._is_proven:
            try:
                await prove_it_is_ours(
                    session, lambda: open_session(self._url, timeout_s=self._timeout_s), self._timeout_s
                )
            except BaseException:
                session.drop()
                raise
            self._is_proven = True
        return session

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        with answered(self._timeout_s):
            async with asyncio.timeout(self._timeout_s):
                yield


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
