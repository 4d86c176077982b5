"""A transaction in memory: keeps state like the database does, savepoints and refusals included."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from kiebot.admin.model import Act, AuditLine, Person, Switch
from kiebot.delivery.outbox import Card, Draft, Row
from kiebot.errors import KeyReused
from kiebot.generation.model import Trouble
from kiebot.intake.lanes import LaneClaim, Waiting
from kiebot.ledger.entries import Millicredits
from kiebot.payments.model import Paid, Payment, Refund, RefundState
from kiebot.people import DraftRow, User, Wishes
from kiebot.store import ConfirmationRows, LetterRows, StatisticsRows, WorkRows
from kiebot.wakeups import Deliver, Drain, Wakeup
from tests.bot.tables import NOW, NotKept, Tables
from tests.bot.works import FakeGenerations, FakeLedger


class FakeTx:
    """Implements kiebot.store.Tx over Tables."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.wakeups: list[Wakeup] = []
        self.generations = FakeGenerations(self)
        self.ledger = FakeLedger(self)
        self.outbox = FakeOutbox(self)
        self.cards = FakeCards(self)
        self.payments = FakePayments(self)
        self.users = FakeUsers(self)
        self.drafts = FakeDrafts(self)
        self.lanes = FakeLanes()
        self.switches = FakeSwitches(self)
        self.audit = FakeAudit(self)

    @property
    def confirmations(self) -> ConfirmationRows:
        raise NotKept

    @property
    def letters(self) -> LetterRows:
        raise NotKept

    @property
    def works(self) -> WorkRows:
        raise NotKept

    @property
    def statistics(self) -> StatisticsRows:
        raise NotKept

    def savepoint(self) -> AbstractAsyncContextManager[object]:
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[None]:
        before = copy.copy(self.tables)
        for name, table in vars(self.tables).items():
            setattr(before, name, copy.copy(table))
        try:
            yield
        except BaseException:
            self.tables = before
            raise


class FakeAudit:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def add(self, actor: str, act: Act) -> None:
        raise NotKept

    async def tells(self, action: str, subject: str) -> bool:
        return False

    async def note(self, actor: str, action: str, subject: str, facts: Mapping[str, object]) -> None:
        self._tx.tables.notes.append((action, {"subject": subject, **facts}))

    async def latest(self, *, most: int, skip: int = 0) -> list[AuditLine]:
        raise NotKept

    async def granted_today(self, actor: str) -> Millicredits:
        raise NotKept


class FakeOutbox:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def add_all(self, drafts: Sequence[Draft], owner: UUID | None) -> tuple[list[Row], list[Deliver]]:
        self._tx.tables.outbox.extend(drafts)
        return [], []

    async def claim_head(self, chat_id: int, owner: UUID) -> Row | None:
        raise NotKept

    async def sent(self, row_id: int, owner: UUID, message_id: int) -> None:
        raise NotKept

    async def later(self, row_id: int, owner: UUID, *, pause_s: float, reason: str, free_try: bool = False) -> None:
        raise NotKept

    async def bury(self, row_id: int, owner: UUID, reason: str) -> None:
        raise NotKept

    async def move_chat(self, from_chat: int, to_chat: int) -> None:
        raise NotKept

    async def left_behind(self, chat_id: int) -> int | None:
        raise NotKept


class FakeCards:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def want(self, generation_id: UUID, chat_id: int, message_id: int | None = None) -> int:
        version, known = self._tx.tables.cards.get(generation_id, (0, None))
        self._tx.tables.cards[generation_id] = (version + 1, known or message_id)
        return version + 1

    async def want_again(self, generation_id: UUID, stale_s: float) -> int | None:
        raise NotKept

    async def want_gone(self, generation_id: UUID) -> int:
        raise NotKept

    async def claim(self, generation_id: UUID, owner: UUID) -> Card | None:
        raise NotKept

    async def sent(self, card: Card, owner: UUID, *, message_id: int | None, told: str | None, quiet_s: float) -> bool:
        raise NotKept

    async def later(self, card: Card, owner: UUID, pause_s: float) -> None:
        raise NotKept

    async def quiet_for(self, generation_id: UUID) -> float | None:
        raise NotKept


class FakeUsers:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def seen(self, user_id: int, first_name: str, language: str) -> User:
        self._tx.tables.blocked.discard(user_id)
        known = self._tx.tables.users.get(user_id)
        if known is None:
            self._tx.tables.users[user_id] = User(user_id, first_name, language)
            return User(user_id, first_name, language, is_new=True)
        spoken = known.language if user_id in self._tx.tables.chosen else language
        self._tx.tables.users[user_id] = replace(known, first_name=first_name, language=spoken)
        return self._tx.tables.users[user_id]

    async def choose_language(self, user_id: int, language: str) -> None:
        self._tx.tables.users[user_id] = replace(self._tx.tables.users[user_id], language=language)
        self._tx.tables.chosen.add(user_id)

    async def wishes(self, user_id: int) -> Wishes:
        return self._tx.tables.wishes.get(user_id, Wishes())

    async def wish(self, user_id: int, wishes: Wishes) -> None:
        self._tx.tables.wishes[user_id] = wishes

    async def blocked_bot(self, user_id: int) -> None:
        self._tx.tables.blocked.add(user_id)

    async def find(self, user_id: int) -> Person | None:
        raise NotKept

    async def ban(self, user_id: int) -> bool:
        raise NotKept

    async def unban(self, user_id: int) -> bool:
        raise NotKept

    async def first_came(self) -> datetime | None:
        raise NotKept


class FakeSwitches:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def off(self) -> list[Switch]:
        return [Switch(model_id, "test", "test", NOW, None) for model_id in self._tx.tables.off]

    async def turn_off(self, model_id: str, reason: str, actor: str) -> bool:
        raise NotKept

    async def turn_on(self, model_id: str) -> bool:
        raise NotKept

    async def stopped(self) -> tuple[int, int]:
        raise NotKept

    async def hurry(self, model_id: str) -> Sequence[Wakeup]:
        raise NotKept

    async def redraw(self, model_id: str) -> Sequence[Wakeup]:
        raise NotKept

    async def switch_off(self, model_id: str, reason: str, actor: str, *, for_s: float) -> datetime | None:
        raise NotKept

    async def is_held_back(self, model_id: str) -> bool:
        raise NotKept

    async def pass_switches(self, model_id: str, *, probe_s: float) -> tuple[str, ...] | None:
        raise NotKept

    async def leave_probe(self, model_ids: Sequence[str]) -> None:
        raise NotKept

    async def switch_on(self, model_ids: Sequence[str]) -> list[tuple[str, datetime]]:
        raise NotKept

    async def trouble(self, attempt_id: UUID, *, window_s: float) -> Trouble:
        raise NotKept


class FakeDrafts:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def load(self, user_id: int, chat_id: int) -> DraftRow | None:
        return self._tx.tables.drafts.get((user_id, chat_id))

    async def save(self, user_id: int, chat_id: int, state: Mapping[str, Any], message_id: int | None) -> int:
        before = self._tx.tables.drafts.get((user_id, chat_id))
        version = before.version + 1 if before else 1
        self._tx.tables.drafts[user_id, chat_id] = DraftRow(version, copy.deepcopy(dict(state)), message_id)
        return version

    async def clear(self, user_id: int, chat_id: int) -> None:
        self._tx.tables.drafts.pop((user_id, chat_id), None)

    async def screen_is(self, user_id: int, chat_id: int, version: int, message_id: int) -> None:
        row = self._tx.tables.drafts.get((user_id, chat_id))
        if row and row.version == version:
            self._tx.tables.drafts[user_id, chat_id] = replace(row, message_id=message_id)


class FakePayments:
    def __init__(self, tx: FakeTx) -> None:
        self._tx = tx

    async def add(self, payment: Payment) -> bool:
        known = self._tx.tables.payments.setdefault((payment.provider, payment.charge_id), payment)
        if (known.user_id, known.amount, known.currency) != (payment.user_id, payment.amount, payment.currency):
            raise KeyReused(payment.charge_id)
        return known is payment

    async def get(self, provider: str, charge_id: str) -> Payment | None:
        return self._tx.tables.payments.get((provider, charge_id))

    async def of_charge(self, charge_id: str) -> list[Payment]:
        return [each for each in self._tx.tables.payments.values() if each.charge_id == charge_id]

    async def of_user(self, user_id: int, *, most: int) -> list[Paid]:
        mine = [Paid(each, NOW) for each in self._tx.tables.payments.values() if each.user_id == user_id]
        return mine[::-1][:most]

    async def all_of(self, provider: str) -> list[Paid]:
        raise NotKept

    async def open_refund(self, payment: Payment, *, actor: str, reason: str) -> Refund | None:
        raise NotKept

    async def mark_taken(self, refund_id: int, taken: int) -> None:
        raise NotKept

    async def standing_refund(self, provider: str, charge_id: str) -> Refund | None:
        raise NotKept

    async def lock_refund(self, refund_id: int) -> Refund:
        raise NotKept

    async def begin_try(self, refund_id: int, within_s: float, *, is_urgent: bool) -> Refund | None:
        raise NotKept

    async def defer_refund(self, refund_id: int, pause_s: float, error: str) -> None:
        raise NotKept

    async def end_refund(self, refund_id: int, state: RefundState, error: str | None) -> None:
        raise NotKept


class FakeLanes:
    async def claim(
        self, lane: str, owner: UUID, *, most: int, again: bool = False
    ) -> tuple[LaneClaim, list[Waiting]] | None:
        raise NotKept

    async def release(self, claim: LaneClaim) -> None:
        raise NotKept

    async def look_again(self, lane: str) -> Drain | None:
        raise NotKept

    async def finish(self, claim: LaneClaim, inbox_id: int) -> bool:
        raise NotKept

    async def turn_away(self, claim: LaneClaim, ids: Sequence[int]) -> int:
        raise NotKept

    async def failed(self, claim: LaneClaim, inbox_id: int, error: str, *, pause_s: float) -> int:
        raise NotKept

    async def bury(self, claim: LaneClaim, inbox_id: int, reason: str) -> int | None:
        raise NotKept
