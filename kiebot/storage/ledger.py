"""Applies postings in the caller's transaction. What a wallet cannot pay is refused in SQL, never after a read."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.errors import KeyReused, Refused
from kiebot.ids import wallet_of
from kiebot.ledger import rules
from kiebot.ledger.entries import Balance, Contra, Kind, Millicredits, Outcome, Posting
from kiebot.observe.metrics import METRICS

HOLD_LIVES_HOURS = 48

_OPEN_ACCOUNT = text("INSERT INTO accounts (key) VALUES (:key) ON CONFLICT (key) DO NOTHING")
_BALANCE = text("SELECT available, held, running, open_count FROM accounts WHERE key = :key")

# The whole hold in one statement: caps and funds are conditions of the very UPDATE that takes them.
_HOLD = text(f"""
    WITH wallet AS (
        UPDATE accounts SET available = available - :amount, held = held + :amount,
            open_count = open_count + 1, version = version + 1
        WHERE key = :wallet AND available >= :amount AND open_count < :max_open
        RETURNING key, available, held, version
    ), posting AS (
        INSERT INTO postings (key, kind, generation_id, actor)
        SELECT :key, '{Kind.HOLD}', :generation_id, 'user' FROM wallet
        RETURNING key
    ), entry AS (
        INSERT INTO entries (posting_key, account, delta_available, delta_held, available_after, held_after, version)
        SELECT posting.key, wallet.key, -CAST(:amount AS bigint), :amount,
            wallet.available, wallet.held, wallet.version
        FROM posting, wallet
    )
    INSERT INTO holds (generation_id, account, amount, expires_at)
    SELECT :generation_id, wallet.key, :amount, now() + interval '{HOLD_LIVES_HOURS} hours' FROM wallet
    RETURNING generation_id
""")
_POSTING = text("""
    INSERT INTO postings (key, kind, generation_id, reason, actor)
    VALUES (:key, :kind, :generation_id, :reason, :actor) ON CONFLICT (key) DO NOTHING RETURNING key
""")
_MOVE = text("""
    WITH moved AS (
        UPDATE accounts SET available = available + :da, held = held + :dh, version = version + 1,
            open_count = open_count - :closes, running = running - :stops
        WHERE key = :account AND (key NOT LIKE 'wallet:%' OR available + :da >= 0) AND held + :dh >= 0
        RETURNING key, available, held, version
    )
    INSERT INTO entries (posting_key, account, delta_available, delta_held, available_after, held_after, version)
    SELECT :posting, key, CAST(:da AS bigint), CAST(:dh AS bigint), available, held, version FROM moved
    RETURNING account
""")
_SAME = text("""
    SELECT p.kind, p.generation_id, p.reason, p.actor,
        coalesce(array_agg(e.account || '|' || e.delta_available || '|' || e.delta_held ORDER BY e.account), '{}')
    FROM postings p LEFT JOIN entries e ON e.posting_key = p.key WHERE p.key = :key GROUP BY p.key
""")
_HELD = text("SELECT amount FROM holds WHERE generation_id = :generation_id")
_SETTLE = text("""
    INSERT INTO settlements (generation_id, outcome, amount) VALUES (:generation_id, :outcome, :amount)
    ON CONFLICT (generation_id) DO NOTHING RETURNING generation_id
""")
_SETTLED = text("SELECT amount FROM settlements WHERE generation_id = :generation_id")
_TAKE_SLOT = text("UPDATE accounts SET running = running + 1 WHERE key = :key AND running < :most RETURNING running")
_GIVE_SLOT = text("UPDATE accounts SET running = running - 1 WHERE key = :key")


class LedgerRepository:
    """Money in the caller's transaction, beside the state it pays for."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open_wallet(self, user_id: int) -> None:
        await self._connection.execute(_OPEN_ACCOUNT, {"key": wallet_of(user_id)})

    async def balance(self, user_id: int) -> Balance:
        row = (await self._connection.execute(_BALANCE, {"key": wallet_of(user_id)})).one_or_none()
        return Balance(*row) if row is not None else Balance(0, 0)

    async def hold(self, generation_id: UUID, user_id: int, amount: Millicredits, *, max_open: int) -> None:
        """Reserve. Raises: Refused("not_enough" | "too_many_open"): nothing was held."""
        posting = rules.hold(generation_id, user_id, amount)
        facts = {
            "wallet": wallet_of(user_id),
            "amount": amount,
            "key": posting.key,
            "generation_id": generation_id,
            "max_open": max_open,
        }
        if await self._connection.scalar(_HOLD, facts) is not None:
            METRICS.ledger_entries.labels(kind=Kind.HOLD.value).inc()
            return
        balance = await self.balance(user_id)
        if balance.open_count >= max_open:
            raise Refused("too_many_open", limit=max_open)
        raise Refused(
            "not_enough", price=amount, available=balance.available, missing=max(amount - balance.available, 0)
        )

    async def capture(
        self, generation_id: UUID, user_id: int, amount: Millicredits | None, *, slot: bool
    ) -> Millicredits | None:
        """Take the money of a success, all of the hold or `amount` of it. None: it was settled before, nothing moved.

        slot: the generation holds one of the user's running slots, given back in the same statement.
        """
        held = await self._held(generation_id)
        taken = held if amount is None else min(amount, held)
        if not await self._settle(generation_id, Outcome.CAPTURED, taken):
            return None
        await self._post(rules.capture(generation_id, user_id, held=held, amount=taken), closes=1, stops=int(slot))
        return taken

    async def void(self, generation_id: UUID, user_id: int, reason: str, *, slot: bool) -> Millicredits | None:
        """Give everything back. None: it was settled before, nothing moved."""
        held = await self._held(generation_id)
        if not await self._settle(generation_id, Outcome.VOIDED, 0):
            return None
        await self._post(rules.void(generation_id, user_id, held=held, reason=reason), closes=1, stops=int(slot))
        return held

    async def grant(
        self,
        key: str,
        user_id: int,
        amount: Millicredits,
        *,
        reason: str,
        actor: str,
        source: Contra = Contra.ADJUSTMENTS,
    ) -> bool:
        """True when new; False when this very grant is already there. Raises: KeyReused; Refused("not_enough")."""
        await self.open_wallet(user_id)
        posting = rules.grant(key, user_id, amount, reason=reason, actor=actor, source=source)
        return await self._post(posting)

    async def settled(self, generation_id: UUID) -> Millicredits | None:
        """What was captured (0: voided), None while it is open."""
        amount: int | None = await self._connection.scalar(_SETTLED, {"generation_id": generation_id})
        return amount

    async def take_slot(self, user_id: int, *, most: int) -> bool:
        """One more running generation for this user, unless the cap is reached."""
        return await self._connection.scalar(_TAKE_SLOT, {"key": wallet_of(user_id), "most": most}) is not None

    async def give_slot(self, user_id: int) -> None:
        await self._connection.execute(_GIVE_SLOT, {"key": wallet_of(user_id)})

    async def _held(self, generation_id: UUID) -> Millicredits:
        held = await self._connection.scalar(_HELD, {"generation_id": generation_id})
        if held is None:
            raise LookupError(f"no hold for generation {generation_id}")
        return int(held)

    async def _settle(self, generation_id: UUID, outcome: Outcome, amount: Millicredits) -> bool:
        facts = {"generation_id": generation_id, "outcome": outcome.value, "amount": amount}
        return await self._connection.scalar(_SETTLE, facts) is not None

    async def _post(self, posting: Posting, *, closes: int = 0, stops: int = 0) -> bool:
        facts = {
            "key": posting.key,
            "kind": posting.kind.value,
            "generation_id": posting.generation_id,
            "reason": posting.reason,
            "actor": posting.actor,
        }
        if await self._connection.scalar(_POSTING, facts) is None:
            await self._must_be_the_same(posting)
            return False
        for entry in sorted(posting.entries, key=lambda e: e.account):  # one order for all: no deadlocks
            wallet = entry.account.startswith("wallet:")
            move = {
                "account": entry.account,
                "da": entry.delta_available,
                "dh": entry.delta_held,
                "posting": posting.key,
                "closes": closes if wallet else 0,
                "stops": stops if wallet else 0,
            }
            if await self._connection.scalar(_MOVE, move) is None:
                raise Refused("not_enough", price=-entry.delta_available)
            METRICS.ledger_entries.labels(kind=posting.kind.value).inc()
        return True

    async def _must_be_the_same(self, posting: Posting) -> None:
        row = (await self._connection.execute(_SAME, {"key": posting.key})).one()
        ours = [
            f"{e.account}|{e.delta_available}|{e.delta_held}" for e in sorted(posting.entries, key=lambda e: e.account)
        ]
        facts = (posting.kind.value, posting.generation_id, posting.reason, posting.actor)
        if tuple(row[:4]) != facts or sorted(row[4]) != sorted(ours):
            raise KeyReused(posting.key)
