"""Tells operators when the provider stops working for the whole account, or for one model, and when it works again.

Once per stop: it lasts while pauses follow one another, and ends when a probe was a success. While nothing waits there
is no probe, and nobody knows whether it is over: the first notice says when its end is told. Stops that begin within
one quarter of an hour are told as one, so a provider that refuses some calls and takes others is no flood; one that
lasts for longer is told again, once, and its end for itself: else the last word of an outage could be the end of the
blip before it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.store import Tx

LONG = timedelta(minutes=15)


class OperatorWords(Protocol):
    """Sentences for operators. `scope`: a model's id, or EVERYTHING for the account."""

    def stopped(self, language: str, scope: str, why: str, *, is_long: bool = False) -> Say: ...
    def works_again(self, language: str, scope: str) -> Say: ...


@dataclass(frozen=True, slots=True)
class Operators:
    """Who hears of it: those of `ids` who have ever talked to the bot, in their own language."""

    ids: Collection[int]
    words: OperatorWords

    async def stopped(self, tx: Tx, scope: str, since: datetime, why: str, *, now: datetime) -> None:
        """It stands still since then. To be called with every pause: said is what was not said yet."""
        is_long = now - since > LONG
        for admin_id, language in await self._listeners(tx):
            said = self.words.stopped(language, scope, why, is_long=is_long)
            await _say(tx, admin_id, said, f"stopped:{scope}:{_name(since, is_long)}")

    async def works(self, tx: Tx, scope: str, since: datetime, *, now: datetime) -> None:
        """The stop that began then is over."""
        name = _name(since, now - since > LONG)
        for admin_id, language in await self._listeners(tx):
            await _say(tx, admin_id, self.words.works_again(language, scope), f"works:{scope}:{name}")

    async def _listeners(self, tx: Tx) -> list[tuple[int, str]]:
        known = [await tx.users.find(admin_id) for admin_id in sorted(self.ids)]
        return [(each.id, each.language) for each in known if each is not None and each.blocked_bot_at is None]


def _name(since: datetime, is_long: bool) -> str:
    """Of a stop: a long one's own, or that of all which begin within its quarter of an hour."""
    return (since if is_long else since.replace(minute=since.minute // 15 * 15, second=0, microsecond=0)).isoformat()


async def _say(tx: Tx, admin_id: int, say: Say, key: str) -> None:
    draft = Draft(admin_id, "say", say_payload(say, is_news=True), key=f"{key}:{admin_id}")
    _, deliveries = await tx.outbox.add_all([draft], None)
    tx.wakeups += deliveries
