"""The store that a bot without a database has: dicts. As much of `kiebot.store.Tx` as the benchmarks' handlers use."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from kiebot.admin.model import Switch
from kiebot.ledger.entries import Balance, Millicredits
from kiebot.people import DraftRow, User


class Memory:
    """Users, drafts and balances of one process. What it lacks is missed with AttributeError."""

    def __init__(self) -> None:
        self._users: dict[int, User] = {}
        self._drafts: dict[tuple[int, int], DraftRow] = {}
        self._balances: dict[int, Millicredits] = {}
        self.users = self.drafts = self.ledger = self
        self.generations = SimpleNamespace(model_is_off=self.model_is_off)
        self.switches = SimpleNamespace(off=self.off)

    async def seen(self, user_id: int, first_name: str, language: str) -> User:
        known = self._users.get(user_id)
        self._users[user_id] = User(user_id, first_name, language)
        return known or User(user_id, first_name, language, is_new=True)

    async def open_wallet(self, user_id: int) -> None:
        self._balances.setdefault(user_id, 0)

    async def balance(self, user_id: int) -> Balance:
        return Balance(self._balances.get(user_id, 0), 0)

    async def model_is_off(self, model_id: str) -> bool:
        return False

    async def off(self) -> list[Switch]:
        return []

    async def load(self, user_id: int, chat_id: int) -> DraftRow | None:
        return self._drafts.get((user_id, chat_id))

    async def save(self, user_id: int, chat_id: int, state: Mapping[str, object], message_id: int | None) -> int:
        before = self._drafts.get((user_id, chat_id))
        version = before.version + 1 if before else 1
        self._drafts[user_id, chat_id] = DraftRow(version, state, message_id)
        return version

    async def screen_is(self, user_id: int, chat_id: int, version: int, message_id: int) -> None:
        row = self._drafts.get((user_id, chat_id))
        if row is not None and row.version == version:
            self._drafts[user_id, chat_id] = DraftRow(version, row.state, message_id)
