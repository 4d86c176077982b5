"""Our payments against the provider's own books, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from kiebot.clock import Clock
from kiebot.payments.credit import credit
from kiebot.payments.model import Paid, RefundState, StatementLine
from kiebot.payments.ports import PaymentProvider, Words
from kiebot.payments.refunds import book_refund_made_elsewhere
from kiebot.store import Store

_CLOCKS_DIFFER = timedelta(hours=1)
TOO_FRESH_S = 60.0  # its update may still be on its way


class Finding(StrEnum):
    NEVER_SEEN = "paid, never seen here"
    UNKNOWN_THERE = "booked here, unknown there"
    OTHER_FACTS = "another amount or payer there"
    REFUND_NEVER_SEEN = "paid back there, not here"
    REFUND_UNKNOWN_THERE = "paid back here, not there"
    TWICE_THERE = "twice in the provider's books"


@dataclass(frozen=True, slots=True)
class Difference:
    """`is_mended`: booked now, by this very run."""

    finding: Finding
    charge_id: str
    user_id: int
    amount: int
    is_mended: bool = False


@dataclass(slots=True)
class Report:
    """What was compared, and every difference. `fresh`: too young to be judged."""

    payments: int = 0
    refunds: int = 0
    fresh: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return all(each.is_mended for each in self.differences)


class Reconciliation:
    """`language`: of the receipt, when the invoice does not say."""

    def __init__(
        self, store: Store, provider: PaymentProvider, words: Words, clock: Clock, language: str = "en"
    ) -> None:
        self._store = store
        self._provider = provider
        self._words = words
        self._clock = clock
        self._language = language

    async def run(self, *, apply: bool, fresh_s: float = TOO_FRESH_S, since: datetime | None = None) -> Report:
        """Compare. `apply`: book what was paid, or paid back, and never seen; other differences are only told.

        `since`: leave alone what is older, such as the payments of another program that had this bot before; default:
        the moment in which the first person came to this one.
        """
        async with self._store.transaction() as tx:  # ours first: what comes meanwhile can only be new there
            ours = {each.payment.charge_id: each for each in await tx.payments.all_of(self._provider.name)}
            first = await tx.users.first_came()
        if since is None and first is not None:
            since = first - _CLOCKS_DIFFER
        every = [line async for line in self._provider.statement()]
        lines = [line for line in every if since is None or line.at >= since]
        report = Report()
        _note_repetitions(report, lines)
        for line in lines:
            known = ours.get(line.charge_id)
            if line.is_refund:
                report.refunds += 1
                await self._refund(report, line, known, apply=apply, fresh_s=fresh_s)
            else:
                report.payments += 1
                await self._payment(report, line, known, apply=apply, fresh_s=fresh_s)
        recent = [each for each in ours.values() if since is None or each.recorded_at >= since]
        _note_only_here(report, recent, every)
        return report

    async def _payment(
        self,
        report: Report,
        line: StatementLine,
        known: Paid | None,
        *,
        apply: bool,
        fresh_s: float,
    ) -> None:
        if known is not None:
            if (known.payment.user_id, known.payment.amount) != (line.user_id, line.amount):
                report.differences.append(_difference(Finding.OTHER_FACTS, line))
        elif self._is_fresh(line, fresh_s):
            report.fresh += 1
        else:
            if apply:
                await self._credit(line)
            report.differences.append(_difference(Finding.NEVER_SEEN, line, is_mended=apply))

    async def _refund(
        self,
        report: Report,
        line: StatementLine,
        known: Paid | None,
        *,
        apply: bool,
        fresh_s: float,
    ) -> None:
        if known is not None and known.refund is RefundState.DONE:
            return
        if self._is_fresh(line, fresh_s):
            report.fresh += 1
            return
        is_mended = apply and await self._book_refund(line.charge_id)
        report.differences.append(_difference(Finding.REFUND_NEVER_SEEN, line, is_mended=is_mended))

    async def _credit(self, line: StatementLine) -> None:
        payment = self._provider.payment_of(line, self._language)
        async with self._store.transaction() as tx:
            draft = await credit(tx, payment, self._words)
            await tx.outbox.add_all([draft] if draft else [], None)

    async def _book_refund(self, charge_id: str) -> bool:
        async with self._store.transaction() as tx:
            actor = "reconcile"
            booked = await book_refund_made_elsewhere(
                tx, charge_id, self._words, provider=self._provider.name, actor=actor
            )
            return booked is not None

    def _is_fresh(self, line: StatementLine, fresh_s: float) -> bool:
        return self._clock.now() - line.at < timedelta(seconds=fresh_s)


def _note_repetitions(report: Report, lines: Sequence[StatementLine]) -> None:
    seen: set[tuple[str, bool]] = set()
    for line in lines:
        if (line.charge_id, line.is_refund) in seen:
            report.differences.append(_difference(Finding.TWICE_THERE, line))
        seen.add((line.charge_id, line.is_refund))


def _note_only_here(report: Report, ours: Sequence[Paid], lines: Sequence[StatementLine]) -> None:
    paid = {line.charge_id for line in lines if not line.is_refund}
    back = {line.charge_id for line in lines if line.is_refund}
    for each in ours:
        payment = each.payment
        facts = (payment.charge_id, payment.user_id, payment.amount)
        if payment.charge_id not in paid:
            report.differences.append(Difference(Finding.UNKNOWN_THERE, *facts))
        if each.refund is RefundState.DONE and payment.charge_id not in back:
            report.differences.append(Difference(Finding.REFUND_UNKNOWN_THERE, *facts))


def _difference(finding: Finding, line: StatementLine, *, is_mended: bool = False) -> Difference:
    return Difference(finding, line.charge_id, line.user_id, line.amount, is_mended)
