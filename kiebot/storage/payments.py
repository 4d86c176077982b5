"""Payments and refunds, in the caller's transaction. A payment never changes; a refund is a state of its own row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.errors import KeyReused
from kiebot.payments.model import Paid, Payment, Refund, RefundState

_PAYMENT = "p.provider, p.charge_id, p.user_id, p.amount, p.currency, p.credits, p.language, p.payload, p.problem"
_REFUND = (
    "r.id, r.provider, r.charge_id, p.user_id, r.amount, r.taken, r.state, r.actor, r.reason, r.tries, r.last_error"
)
_OF_PAYMENT = "p.provider = r.provider AND p.charge_id = r.charge_id"
_STANDING = f"LEFT JOIN refunds r ON {_OF_PAYMENT} AND r.state <> 'refused'"

_ADD = text("""
    INSERT INTO payments (provider, charge_id, user_id, amount, currency, credits, language, payload, problem)
    VALUES (:provider, :charge_id, :user_id, :amount, :currency, :credits, :language, :payload, :problem)
    ON CONFLICT (provider, charge_id) DO NOTHING RETURNING charge_id
""")
_GET = text(f"SELECT {_PAYMENT} FROM payments p WHERE p.provider = :provider AND p.charge_id = :charge_id")
_OF_CHARGE = text(f"SELECT {_PAYMENT} FROM payments p WHERE p.charge_id = :charge_id ORDER BY p.provider")
_OF_USER = text(f"""
    SELECT {_PAYMENT}, p.recorded_at, r.state FROM payments p {_STANDING}
    WHERE p.user_id = :user_id ORDER BY p.recorded_at DESC LIMIT :most
""")
_ALL_OF = text(f"""
    SELECT {_PAYMENT}, p.recorded_at, r.state FROM payments p {_STANDING}
    WHERE p.provider = :provider ORDER BY p.recorded_at
""")
_OPEN = text("""
    INSERT INTO refunds (provider, charge_id, amount, actor, reason)
    VALUES (:provider, :charge_id, :amount, :actor, :reason)
    ON CONFLICT (provider, charge_id) WHERE state <> 'refused' DO NOTHING RETURNING id
""")
_TAKEN = text("UPDATE refunds SET taken = :taken WHERE id = :id AND state = 'open'")
_FIND = text(f"""
    SELECT {_REFUND} FROM refunds r JOIN payments p ON {_OF_PAYMENT}
    WHERE r.provider = :provider AND r.charge_id = :charge_id AND r.state <> 'refused'
""")
_LOCK = text(f"SELECT {_REFUND} FROM refunds r JOIN payments p ON {_OF_PAYMENT} WHERE r.id = :id FOR UPDATE OF r")
_BEGIN = text(f"""
    UPDATE refunds r SET tries = r.tries + 1, next_at = now() + make_interval(secs => :within_s)
    FROM payments p WHERE {_OF_PAYMENT} AND r.id = :id AND r.state = 'open' AND (r.next_at <= now() OR :is_urgent)
    RETURNING {_REFUND}
""")
_DEFER = text("""
    UPDATE refunds SET next_at = now() + make_interval(secs => :pause_s), last_error = :error
    WHERE id = :id AND state = 'open'
""")
_END = text("""
    UPDATE refunds SET state = :state, last_error = :error, ended_at = now() WHERE id = :id AND state = 'open'
""")


class PaymentRepository:
    """Money that came in from outside, and what went back."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, payment: Payment) -> bool:
        """True when new; False when this charge is there. Raises: KeyReused, when its payer or amount was another."""
        if await self._connection.scalar(_ADD, asdict(payment)) is not None:
            return True
        known = await self.get(payment.provider, payment.charge_id)
        if known is None or _facts(known) != _facts(payment):
            raise KeyReused(f"{payment.provider}:{payment.charge_id}")
        return False

    async def get(self, provider: str, charge_id: str) -> Payment | None:
        row = (await self._connection.execute(_GET, {"provider": provider, "charge_id": charge_id})).one_or_none()
        return None if row is None else Payment(*row)

    async def of_charge(self, charge_id: str) -> list[Payment]:
        """Whoever took it: a charge's name is unique with each provider only."""
        return [Payment(*row) for row in await self._connection.execute(_OF_CHARGE, {"charge_id": charge_id})]

    async def of_user(self, user_id: int, *, most: int) -> list[Paid]:
        """Newest first."""
        rows = await self._connection.execute(_OF_USER, {"user_id": user_id, "most": most})
        return [_paid(row) for row in rows]

    async def all_of(self, provider: str) -> list[Paid]:
        """Everything a provider ever brought, oldest first: for reconciliation."""
        return [_paid(row) for row in await self._connection.execute(_ALL_OF, {"provider": provider})]

    async def open_refund(self, payment: Payment, *, actor: str, reason: str) -> Refund | None:
        """The intent; None when one stands already, open or done."""
        facts = {"provider": payment.provider, "charge_id": payment.charge_id, "amount": payment.credits}
        refund_id = await self._connection.scalar(_OPEN, facts | {"actor": actor, "reason": reason})
        return None if refund_id is None else await self.lock_refund(refund_id)

    async def mark_taken(self, refund_id: int, taken: int) -> None:
        await self._connection.execute(_TAKEN, {"id": refund_id, "taken": taken})

    async def standing_refund(self, provider: str, charge_id: str) -> Refund | None:
        """The one that is open or done; there is one at most."""
        row = (await self._connection.execute(_FIND, {"provider": provider, "charge_id": charge_id})).one_or_none()
        return None if row is None else _refund(row)

    async def lock_refund(self, refund_id: int) -> Refund:
        """Raises: LookupError."""
        row = (await self._connection.execute(_LOCK, {"id": refund_id})).one_or_none()
        if row is None:
            raise LookupError(f"no refund {refund_id}")
        return _refund(row)

    async def begin_try(self, refund_id: int, within_s: float, *, is_urgent: bool) -> Refund | None:
        """Take the next try of an open refund, for `within_s` seconds. None: it is not due, or has ended."""
        facts = {"id": refund_id, "within_s": within_s, "is_urgent": is_urgent}
        row = (await self._connection.execute(_BEGIN, facts)).one_or_none()
        return None if row is None else _refund(row)

    async def defer_refund(self, refund_id: int, pause_s: float, error: str) -> None:
        await self._connection.execute(_DEFER, {"id": refund_id, "pause_s": pause_s, "error": error[:300]})

    async def end_refund(self, refund_id: int, state: RefundState, error: str | None) -> None:
        facts = {"id": refund_id, "state": state.value, "error": error[:300] if error else None}
        await self._connection.execute(_END, facts)


def _facts(payment: Payment) -> tuple[int, int, str]:
    return payment.user_id, payment.amount, payment.currency


def _paid(row: Sequence[Any]) -> Paid:
    return Paid(Payment(*row[:9]), row[9], RefundState(row[10]) if row[10] else None)


def _refund(row: Sequence[Any]) -> Refund:
    facts = list(row)
    facts[6] = RefundState(facts[6])
    return Refund(*facts)
