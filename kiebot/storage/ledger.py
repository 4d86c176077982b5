"""Applies postings in the caller's transaction. What a wallet cannot pay is refused in SQL, never after a read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.errors import KeyReused, Refused
from kiebot.ids import daily_key, grant_key, provider_of, wallet_of
from kiebot.ledger import rules
from kiebot.ledger.entries import Balance, Contra, Kind, Millicredits, Outcome, Posting
from kiebot.observe.metrics import METRICS

HOLD_LIVES_HOURS = 48

_OPEN_ACCOUNT = text("INSERT INTO accounts (key) VALUES (:key) ON CONFLICT (key) DO NOTHING")
_BALANCE = text("SELECT available, held, running, open_count FROM accounts WHERE key = :key")

_TODAY = "(now() AT TIME ZONE 'UTC')::date"
_SPENT = f"CASE WHEN spent_on >= {_TODAY} THEN spent ELSE 0 END"  # >=: a transaction may have begun before midnight

# The whole hold in one statement: caps, limits and funds are conditions of the very UPDATE that takes them. The row of
# the cluster's day is locked first, by everyone, and only while there is a limit to keep.
_HOLD = f"""
    WITH {{day}} wallet AS (
        UPDATE accounts SET available = available - :amount, held = held + :amount,
            open_count = open_count + 1, version = version + 1,
            spent_on = greatest(spent_on, {_TODAY}), spent = {_SPENT} + :amount
        WHERE key = :wallet AND available >= :amount AND open_count < :max_open {{within_the_day}}
            AND (CAST(:spend_per_user AS bigint) = 0 OR {_SPENT} + :amount <= CAST(:spend_per_user AS bigint))
        RETURNING key, available, held, version
    ), {{counted}} posting AS (
        INSERT INTO postings (key, kind, generation_id, actor)
        SELECT :key, '{Kind.HOLD}', :generation_id, 'user' FROM wallet
        RETURNING key
    ), entry AS (
        INSERT INTO entries (posting_key, account, delta_available, delta_held, available_after, held_after, version)
        SELECT posting.key, wallet.key, -CAST(:amount AS bigint), :amount,
            wallet.available, wallet.held, wallet.version
        FROM posting, wallet
    )
    INSERT INTO holds (generation_id, account, amount, expires_at, is_counted)
    SELECT :generation_id, wallet.key, :amount, now() + interval '{HOLD_LIVES_HOURS} hours', {{is_counted}} FROM wallet
    RETURNING generation_id
"""
_UNCOUNTED_HOLD = text(_HOLD.format(day="", within_the_day="", counted="", is_counted="false"))
_COUNTED_HOLD = text(
    _HOLD.format(
        day=f"day AS (SELECT amount FROM spending WHERE day = {_TODAY} FOR UPDATE),",
        within_the_day="AND EXISTS (SELECT 1 FROM day WHERE day.amount + :amount <= CAST(:spend_per_day AS bigint))",
        counted=f"""counted AS (
            UPDATE spending SET amount = spending.amount + :amount FROM wallet WHERE spending.day = {_TODAY}
        ),""",
        is_counted="true",
    )
)
_OPEN_DAY = text(f"INSERT INTO spending (day) VALUES ({_TODAY}) ON CONFLICT (day) DO NOTHING")
_SPENT_TODAY = text(f"""
    SELECT coalesce((SELECT {_SPENT} FROM accounts WHERE key = :wallet), 0),
        coalesce((SELECT amount FROM spending WHERE day = {_TODAY}), 0)
""")
_GIVE_DAY_BACK = text("UPDATE spending SET amount = greatest(amount - :unspent, 0) WHERE day = :day")
_DAY = text(f"""
    SELECT to_char({_TODAY}, 'YYYY-MM-DD') AS date,
        EXISTS (SELECT 1 FROM postings WHERE key = :prefix || to_char({_TODAY}, 'YYYY-MM-DD')) AS is_given
""")
_LOCK_ACCOUNTS = text("SELECT key, available, held FROM accounts WHERE key = ANY(:keys) ORDER BY key FOR UPDATE")
_POSTING = text("""
    INSERT INTO postings (key, kind, generation_id, reason, actor)
    VALUES (:key, :kind, :generation_id, :reason, :actor) ON CONFLICT (key) DO NOTHING RETURNING key
""")
_MOVE = text("""
    WITH moved AS (
        UPDATE accounts SET available = available + :da, held = held + :dh, version = version + 1,
            open_count = open_count - :closes, running = running - :stops,
            spent = CASE WHEN spent_on = CAST(:day AS date) THEN greatest(spent - :unspent, 0) ELSE spent END
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
_HELD = text("""
    SELECT amount, (held_at AT TIME ZONE 'UTC')::date AS day, is_counted FROM holds WHERE generation_id = :generation_id
""")
_SETTLE = text("""
    INSERT INTO settlements (generation_id, outcome, amount) VALUES (:generation_id, :outcome, :amount)
    ON CONFLICT (generation_id) DO NOTHING RETURNING generation_id
""")
_SETTLED = text("SELECT amount FROM settlements WHERE generation_id = :generation_id")
# Locked before it is looked at: a slot that another transaction is just giving back is waited for.
_TAKE_SLOT = text("""
    WITH wallet AS (SELECT key, running FROM accounts WHERE key = :key FOR UPDATE)
    UPDATE accounts SET running = wallet.running + 1 FROM wallet
    WHERE accounts.key = wallet.key AND wallet.running < :most RETURNING accounts.running
""")
_GIVE_SLOT = text("UPDATE accounts SET running = running - 1 WHERE key = :key")


@dataclass(frozen=True, slots=True)
class _Hold:
    amount: Millicredits
    day: date
    is_counted: bool


@dataclass(frozen=True, slots=True)
class _End:
    """What the end of a hold does to its wallet's counters."""

    closes: int = 0
    stops: int = 0
    day: date | None = None
    unspent: Millicredits = 0


class LedgerRepository:
    """Money in the caller's transaction, beside the state it pays for."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open_wallet(self, user_id: int) -> None:
        await self._connection.execute(_OPEN_ACCOUNT, {"key": wallet_of(user_id)})

    async def balance(self, user_id: int) -> Balance:
        row = (await self._connection.execute(_BALANCE, {"key": wallet_of(user_id)})).one_or_none()
        return Balance(*row) if row is not None else Balance(0, 0)

    async def hold(
        self,
        generation_id: UUID,
        user_id: int,
        amount: Millicredits,
        *,
        max_open: int,
        spend_per_user: Millicredits = 0,
        spend_per_day: Millicredits = 0,
    ) -> None:
        """Reserve. The limits are of a day (UTC), the user's and everybody's; 0 is none. What comes back of a hold
        comes back to its day's limits too.

        Raises: Refused("not_enough" | "too_many_open" | "spent_user" | "spent_all"): nothing was held.
        """
        posting = rules.hold(generation_id, user_id, amount)
        facts = {
            "wallet": wallet_of(user_id),
            "amount": amount,
            "key": posting.key,
            "generation_id": generation_id,
            "max_open": max_open,
            "spend_per_user": spend_per_user,
        }
        statement = _UNCOUNTED_HOLD
        if spend_per_day:
            await self._connection.execute(_OPEN_DAY)
            statement, facts["spend_per_day"] = _COUNTED_HOLD, spend_per_day
        if await self._connection.scalar(statement, facts) is None:
            raise await self._why_not(user_id, amount, max_open, spend_per_user, spend_per_day)
        METRICS.ledger_entries.labels(kind=Kind.HOLD.value).inc()

    async def capture(
        self, generation_id: UUID, user_id: int, amount: Millicredits | None, *, slot: bool
    ) -> Millicredits | None:
        """Take the money of a success, all of the hold or `amount` of it. None: it was settled before, nothing moved.

        slot: the generation holds one of the user's running slots, given back in the same statement.
        """
        hold = await self._held(generation_id)
        taken = hold.amount if amount is None else min(amount, hold.amount)
        if not await self._settle(generation_id, Outcome.CAPTURED, taken):
            return None
        end = await self._ended(hold, unspent=hold.amount - taken, slot=slot)
        await self._post(rules.capture(generation_id, user_id, held=hold.amount, amount=taken), end)
        return taken

    async def void(self, generation_id: UUID, user_id: int, reason: str, *, slot: bool) -> Millicredits | None:
        """Give everything back. None: it was settled before, nothing moved."""
        hold = await self._held(generation_id)
        if not await self._settle(generation_id, Outcome.VOIDED, 0):
            return None
        end = await self._ended(hold, unspent=hold.amount, slot=slot)
        await self._post(rules.void(generation_id, user_id, held=hold.amount, reason=reason), end)
        return hold.amount

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

    async def give_daily(self, user_id: int, amount: Millicredits) -> bool:
        """The free credits of this day (UTC), once. True: just now."""
        facts = {"prefix": grant_key(daily_key(user_id, ""))}
        day = (await self._connection.execute(_DAY, facts)).one()
        if day.is_given:
            return False
        key = daily_key(user_id, day.date)
        return await self.grant(key, user_id, amount, reason="daily", actor="bot", source=Contra.PROMOTIONS)

    async def top_up(self, provider: str, charge_id: str, user_id: int, amount: Millicredits) -> bool:
        """Book what a payment bought. False: this very charge was booked before. Raises: KeyReused."""
        await self._connection.execute(_OPEN_ACCOUNT, {"key": provider_of(provider)})
        await self.open_wallet(user_id)
        return await self._post(rules.top_up(provider, charge_id, user_id, amount))

    async def set_aside(
        self, refund_id: int, provider: str, user_id: int, most: Millicredits, *, reason: str, actor: str
    ) -> Millicredits:
        """Take for a refund what the wallet has of `most`; returns it. Holds are left alone.

        All accounts a refund may touch are locked here, in one order for all, so that its two halves may share a
        transaction.
        """
        wallet = wallet_of(user_id)
        keys = [provider_of(provider), Contra.RECEIVABLE.value, Contra.REFUNDS.value, wallet]
        rows = (await self._connection.execute(_LOCK_ACCOUNTS, {"keys": keys})).all()
        available = next((row.available for row in rows if row.key == wallet), 0)
        taken = min(most, available)
        if taken > 0:
            await self._post(rules.set_aside(refund_id, user_id, taken, reason=reason, actor=actor))
        return taken

    async def refund(
        self,
        refund_id: int,
        provider: str,
        *,
        amount: Millicredits,
        taken: Millicredits,
        reason: str,
        actor: str,
    ) -> bool:
        """The provider paid back `amount`, of which `taken` was set aside. False: booked before."""
        return await self._post(
            rules.refund(refund_id, provider, amount=amount, taken=taken, reason=reason, actor=actor)
        )

    async def refund_void(self, refund_id: int, user_id: int, taken: Millicredits, *, reason: str, actor: str) -> bool:
        """The provider will not pay back. False: nothing was set aside, or it returned before."""
        if taken == 0:
            return False
        return await self._post(rules.refund_void(refund_id, user_id, taken, reason=reason, actor=actor))

    async def settled(self, generation_id: UUID) -> Millicredits | None:
        """What was captured (0: voided), None while it is open."""
        amount: int | None = await self._connection.scalar(_SETTLED, {"generation_id": generation_id})
        return amount

    async def take_slot(self, user_id: int, *, most: int) -> int | None:
        """One more running generation for this user: how many they are now. None: the cap is reached, and until the
        transaction ends no slot comes free."""
        running: int | None = await self._connection.scalar(_TAKE_SLOT, {"key": wallet_of(user_id), "most": most})
        return running

    async def give_slot(self, user_id: int) -> None:
        await self._connection.execute(_GIVE_SLOT, {"key": wallet_of(user_id)})

    async def _why_not(
        self,
        user_id: int,
        amount: Millicredits,
        max_open: int,
        spend_per_user: Millicredits,
        spend_per_day: Millicredits,
    ) -> Refused:
        balance = await self.balance(user_id)
        spent, spent_by_all = (await self._connection.execute(_SPENT_TODAY, {"wallet": wallet_of(user_id)})).one()
        if balance.open_count >= max_open:
            return Refused("too_many_open", limit=max_open)
        if balance.available >= amount and spend_per_user and spent + amount > spend_per_user:
            return Refused("spent_user", price=amount, limit=spend_per_user, spent=spent)
        if balance.available >= amount and spend_per_day and spent_by_all + amount > spend_per_day:
            return Refused("spent_all", price=amount)
        return Refused(
            "not_enough", price=amount, available=balance.available, missing=max(amount - balance.available, 0)
        )

    async def _held(self, generation_id: UUID) -> _Hold:
        row = (await self._connection.execute(_HELD, {"generation_id": generation_id})).one_or_none()
        if row is None:
            raise LookupError(f"no hold for generation {generation_id}")
        return _Hold(*row)

    async def _ended(self, hold: _Hold, *, unspent: Millicredits, slot: bool) -> _End:
        if hold.is_counted and unspent:
            await self._connection.execute(_GIVE_DAY_BACK, {"day": hold.day, "unspent": unspent})
        return _End(closes=1, stops=int(slot), day=hold.day, unspent=unspent)

    async def _settle(self, generation_id: UUID, outcome: Outcome, amount: Millicredits) -> bool:
        facts = {"generation_id": generation_id, "outcome": outcome.value, "amount": amount}
        return await self._connection.scalar(_SETTLE, facts) is not None

    async def _post(self, posting: Posting, end: _End | None = None) -> bool:
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
            ends = end if end is not None and entry.account.startswith("wallet:") else _End()
            move = {
                "account": entry.account,
                "da": entry.delta_available,
                "dh": entry.delta_held,
                "posting": posting.key,
                **asdict(ends),
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
