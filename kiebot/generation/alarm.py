"""Tells operators when the provider stops working for the whole account, or for one model, and when it works again.

Once per stop: it lasts while pauses follow one another, and ends when a probe was a success. While nothing waits there
is no probe, and nobody knows whether it is over: the first notice says when its end is told. Stops that begin within
one quarter of an hour are told as one, so a provider that refuses some calls and takes others is no flood.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.store import Tx


class OperatorWords(Protocol):
    """Sentences for operators. `scope`: a model's id, or EVERYTHING for the account."""

    def stopped(self, language: str, scope: str, why: str) -> Say: ...
    def works_again(self, language: str, scope: str) -> Say: ...


@dataclass(frozen=True, slots=True)
class Operators:
    """Who hears of it: those of `ids` who have ever talked to the bot, in their own language."""

    ids: Collection[int]
    words: OperatorWords

    async def stopped(self, tx: Tx, scope: str, since: datetime, why: str) -> None:
        for admin_id, language in await self._listeners(tx):
            await _say(tx, admin_id, self.words.stopped(language, scope, why), f"stopped:{scope}:{_quarter(since)}")

    async def works(self, tx: Tx, scope: str, since: datetime) -> None:
        """The stop that began then is over."""
        for admin_id, language in await self._listeners(tx):
            await _say(tx, admin_id, self.words.works_again(language, scope), f"works:{scope}:{_quarter(since)}")

    async def _listeners(self, tx: Tx) -> list[tuple[int, str]]:
        known = [await tx.users.find(admin_id) for admin_id in sorted(self.ids)]
        return [(each.id, each.language) for each in known if each is not None and each.blocked_bot_at is None]


def _quarter(at: datetime) -> str:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0).isoformat()


async def _say(tx: Tx, admin_id: int, say: Say, key: str) -> None:
    draft = Draft(admin_id, "say", say_payload(say, is_news=True), key=f"{key}:{admin_id}")
    _, deliveries = await tx.outbox.add_all([draft], None)
    tx.wakeups += deliveries
