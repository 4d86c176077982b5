"""Generations and money in memory, with the refusals of the real store."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from kiebot.errors import Refused
from kiebot.generation.model import Ahead, Artifact, AttemptState, Claim, Deferred, Generation, Order, State
from kiebot.generation.ports import TaskState
from kiebot.ids import daily_key, hold_key, wallet_of
from kiebot.ledger import rules
from kiebot.ledger.entries import Balance, Contra, Kind, Millicredits, Posting
from tests.bot.tables import NOW, NotKept, Tables


class HasTables(Protocol):
    """The transaction: a savepoint undone swaps its tables."""

    tables: Tables


class FakeGenerations:
    def __init__(self, tx: HasTables) -> None:
        self._tx = tx

    @property
    def _rows(self) -> dict[UUID, Generation]:
        return self._tx.tables.generations

    async def add(self, order: Order) -> Generation | None:
        if order.confirm_key in self._tx.tables.confirm_keys:
            return None
        made = Generation(
            id=order.generation_id,
            number=len(self._rows) + 1,
            user_id=order.user_id,
            chat_id=order.chat_id,
            model_id=order.model_id,
            inputs=copy.deepcopy(dict(order.inputs)),
            language=order.language,
            state=State.ACCEPTED,
            quote=order.quote,
            accepted_at=NOW,
        )
        self._rows[made.id] = made
        self._tx.tables.confirm_keys[order.confirm_key] = made.id
        return made

    async def get(self, generation_id: UUID) -> Generation | None:
        return self._rows.get(generation_id)

    async def lock(self, generation_id: UUID) -> Generation:
        return self._rows[generation_id]

    async def by_confirm_key(self, key: str) -> Generation | None:
        found = self._tx.tables.confirm_keys.get(key)
        return self._rows[found] if found else None

    async def of_user(self, user_id: int, number: int) -> Generation | None:
        return next((g for g in self._rows.values() if g.user_id == user_id and g.number == number), None)

    async def save(
        self,
        generation: Generation,
        *,
        slot: bool,
        due_in_s: float | None,
        newly_submitted: bool = False,
        ends: Claim | None = None,
    ) -> int:
        saved = replace(generation, holds_slot=slot, revision=generation.revision + 1)
        self._rows[generation.id] = saved
        return saved.revision

    async def defer(
        self,
        generation_id: UUID,
        due_in_s: float,
        *,
        polled: bool = False,
        setback: bool = False,
        stumble: bool = False,
        report: TaskState | None = None,
        seen: int | None = None,
        ends: Claim | None = None,
    ) -> Deferred | None:
        row = self._rows[generation_id]
        self._rows[generation_id] = replace(row, revision=row.revision + 1)
        return Deferred(row.revision + 1, due_in_s)

    async def hurry(self, generation_id: UUID) -> int | None:
        raise NotKept

    async def hurry_next_of(self, user_id: int, *, but: UUID) -> tuple[UUID, int] | None:
        waiting = next((g for g in await self.open_of(user_id) if g.state == State.ACCEPTED and g.id != but), None)
        return None if waiting is None else (waiting.id, waiting.revision)

    async def history(self, user_id: int, *, most: int, skip: int = 0) -> list[Generation]:
        mine = sorted((g for g in self._rows.values() if g.user_id == user_id), key=lambda g: -g.number)
        return mine[skip : skip + most]

    async def open_of(self, user_id: int, *, most: int = 20) -> list[Generation]:
        return [g for g in self._rows.values() if g.user_id == user_id and not g.state.is_final][:most]

    async def artifacts(self, generation_id: UUID) -> list[Artifact]:
        return [each for each in self._tx.tables.artifacts if each.generation_id == generation_id]

    async def add_artifact(self, artifact: Artifact) -> None:
        self._tx.tables.artifacts.append(artifact)

    async def ahead_of(self, generation_id: UUID) -> Ahead:
        return Ahead(0, 0)

    async def typical_seconds(self, model_id: str) -> float | None:
        return None

    async def model_is_off(self, model_id: str) -> bool:
        return model_id in self._tx.tables.off

    async def claim(self, generation_id: UUID, owner: UUID) -> Generation | None:
        raise NotKept

    async def release(self, generation_id: UUID, claim: Claim) -> None:
        raise NotKept

    async def free(self, generation_id: UUID) -> None:
        raise NotKept

    async def mark_slot(self, generation_id: UUID) -> bool:
        raise NotKept

    async def unmark_slot(self, generation_id: UUID) -> None:
        raise NotKept

    async def set_uploads(self, generation_id: UUID, uploads: Mapping[str, object]) -> None:
        raise NotKept

    async def open_attempt(self, generation: Generation) -> None:
        raise NotKept

    async def mark_attempt(
        self,
        attempt_id: UUID,
        state: AttemptState,
        *,
        task_id: str | None = None,
        error: str | None = None,
        suspected_loss: bool = False,
    ) -> None:
        raise NotKept

    async def suspect_loss(self, attempt_id: UUID) -> None:
        raise NotKept

    async def consumed(self, attempt_id: UUID, amount: int) -> None:
        raise NotKept

    async def attempt_owner(self, attempt_id: UUID) -> tuple[UUID, str | None] | None:
        raise NotKept

    async def attempt_of_task(self, task_id: str) -> UUID | None:
        raise NotKept


class FakeLedger:
    def __init__(self, tx: HasTables) -> None:
        self._tx = tx

    async def open_wallet(self, user_id: int) -> None:
        self._tx.tables.wallets.setdefault(wallet_of(user_id), Balance(0, 0))

    async def balance(self, user_id: int) -> Balance:
        return self._tx.tables.wallets.get(wallet_of(user_id), Balance(0, 0))

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
        wallet = await self.balance(user_id)
        if wallet.open_count >= max_open:
            raise Refused("too_many_open", limit=max_open)
        if wallet.available < amount:
            raise Refused("not_enough", price=amount, available=wallet.available, missing=amount - wallet.available)
        holds = [e for p in self._tx.tables.postings.values() if p.kind is Kind.HOLD for e in p.entries]
        if spend_per_day and sum(e.delta_held for e in holds) + amount > spend_per_day:
            raise Refused("spent_all", price=amount)
        mine = sum(e.delta_held for e in holds if e.account == wallet_of(user_id))
        if spend_per_user and mine + amount > spend_per_user:
            raise Refused("spent_user", price=amount, limit=spend_per_user, spent=mine)
        self._post(rules.hold(generation_id, user_id, amount), opened=1)

    async def capture(
        self, generation_id: UUID, user_id: int, amount: Millicredits | None, *, slot: bool
    ) -> Millicredits | None:
        held = self._held(generation_id)
        taken = held if amount is None else amount
        return (
            taken
            if self._settle(generation_id, rules.capture(generation_id, user_id, held=held, amount=taken))
            else None
        )

    async def void(self, generation_id: UUID, user_id: int, reason: str, *, slot: bool) -> Millicredits | None:
        held = self._held(generation_id)
        return (
            held if self._settle(generation_id, rules.void(generation_id, user_id, held=held, reason=reason)) else None
        )

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
        posting = rules.grant(key, user_id, amount, reason=reason, actor=actor, source=source)
        if posting.key in self._tx.tables.postings:
            return False
        self._post(posting)
        return True

    async def give_daily(self, user_id: int, amount: Millicredits) -> bool:
        key = daily_key(user_id, f"{NOW:%Y-%m-%d}")
        return await self.grant(key, user_id, amount, reason="daily", actor="bot", source=Contra.PROMOTIONS)

    async def top_up(self, provider: str, charge_id: str, user_id: int, amount: Millicredits) -> bool:
        posting = rules.top_up(provider, charge_id, user_id, amount)
        if posting.key in self._tx.tables.postings:
            return False
        self._post(posting)
        return True

    async def set_aside(
        self, refund_id: int, provider: str, user_id: int, most: Millicredits, *, reason: str, actor: str
    ) -> Millicredits:
        raise NotKept

    async def refund(
        self, refund_id: int, provider: str, *, amount: Millicredits, taken: Millicredits, reason: str, actor: str
    ) -> bool:
        raise NotKept

    async def refund_void(self, refund_id: int, user_id: int, taken: Millicredits, *, reason: str, actor: str) -> bool:
        raise NotKept

    async def settled(self, generation_id: UUID) -> Millicredits | None:
        raise NotKept

    async def take_slot(self, user_id: int, *, most: int) -> int | None:
        raise NotKept

    async def give_slot(self, user_id: int) -> None:
        raise NotKept

    def _held(self, generation_id: UUID) -> Millicredits:
        hold = self._tx.tables.postings[hold_key(generation_id)]
        return sum(entry.delta_held for entry in hold.entries)

    def _settle(self, generation_id: UUID, posting: Posting) -> bool:
        if generation_id in self._tx.tables.settled:
            return False
        self._tx.tables.settled[generation_id] = posting.kind.value
        self._post(posting, opened=-1)
        return True

    def _post(self, posting: Posting, *, opened: int = 0) -> None:
        self._tx.tables.postings[posting.key] = posting
        for entry in posting.entries:
            before = self._tx.tables.wallets.get(entry.account, Balance(0, 0))
            self._tx.tables.wallets[entry.account] = replace(
                before,
                available=before.available + entry.delta_available,
                held=before.held + entry.delta_held,
                open_count=before.open_count + opened * entry.account.startswith("wallet:"),
            )
