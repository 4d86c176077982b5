"""Which store an address means. One of them, for the whole life of a cluster: there is no falling back to another."""

from __future__ import annotations

from kiebot.clock import Clock
from kiebot.lease.file import FileLeaseStore
from kiebot.lease.postgres import PostgresLeaseStore
from kiebot.lease.protocol import LeaseStore
from kiebot.lease.redis import RedisLeaseStore


def open_lease_store(url: str, *, clock: Clock, prefix: str = "kiebot", call_timeout_s: float = 1.5) -> LeaseStore:
    """The store behind LEASE_URL; connects on first use.

    Args: url, redis://, rediss:// or unix:// (Redis), postgresql:// or postgres://, file:/// and a path; prefix, begins
        every name, so that clusters may share a store; call_timeout_s, how long any call may take.
    Raises: ValueError, for any other address. Its text never repeats the address, which may hold a password.
    """
    scheme = url.partition("://")[0]
    match scheme:
        case "redis" | "rediss" | "unix":
            return RedisLeaseStore(url, clock=clock, prefix=prefix, call_timeout_s=call_timeout_s)
        case "postgresql" | "postgres":
            return PostgresLeaseStore(url, clock=clock, prefix=prefix, call_timeout_s=call_timeout_s)
        case "file":
            return FileLeaseStore(url, clock=clock, prefix=prefix, call_timeout_s=call_timeout_s)
    raise ValueError("a lease lives at redis://, rediss://, unix://, postgresql:// or file:///")
