"""The lease: who may poll. One port, several stores, one contract suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lease:
    """A grant of one term. `token` is random per term.

    `sent_at` is `Clock.monotonic()` of the clock that store and candidate share, read before the request left: trust is
    counted from there, so a store that stamps it later breaks the promise of one holder.
    """

    name: str
    replica: str
    token: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease just now, as the store tells it. `remaining_s` is infinite when the grant has no end.

    `is_connected`: whether the holder has its liveness connection, from a store that tells it along; None: ask
    `holder_is_connected`.
    """

    replica: str
    token: str
    remaining_s: float
    is_connected: bool | None = None


class StoreUnreachable(Exception):
    """The store gave no usable answer. This is never the same as "held by another", and never leads to polling."""


class LeaseStore(Protocol):
    """Grants one lease per name. Every adapter passes tests/contract/test_lease_store.py.

    Each call ends within the store's call timeout: with an answer, or with StoreUnreachable. Each is idempotent by
    token, so a lost answer may be repeated blindly. Any error of the store's own library becomes StoreUnreachable.
    """

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        """The lease when it was free (or is already held under this token), None when another holds it."""
        ...

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        """The lease with a new `sent_at`, or None: it is not yours any more; stop at once."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give it up, when it is still ours, and ring the doorbell so that one standby wakes.

        Also ends whatever the store keeps open for this term (its liveness connection), even when the call fails or the
        lease has long been another's; so a holder calls it at the end of every term.
        """
        ...

    async def holder(self, name: str) -> Holder | None:
        """Who holds it now."""
        ...

    async def wait_for_change(self, name: str, timeout_s: float) -> bool:
        """Block until the doorbell rings (True) or the time is up (False). One ring wakes one waiter.

        A ring that nobody waits for is kept for a second or two. May take `timeout_s` plus the call timeout.
        """
        ...

    async def seize(self, name: str, replica: str, *, dead_token: str, token: str, ttl_s: float) -> Lease | None:
        """Take over from a term judged dead, only if its token still stands there."""
        ...

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        """Whether the holder of this term still has its liveness connection; None when this store cannot tell."""
        ...

    async def nudge(self, token: str) -> None:
        """Ask the holder of this term to look at its lease now: it seems to be gone. Best effort, never raises."""
        ...

    async def wait_for_nudge(self, token: str) -> None:
        """Until somebody nudges the holder of this term; for ever in a store whose leases do not vanish."""
        ...

    async def close(self) -> None: ...
