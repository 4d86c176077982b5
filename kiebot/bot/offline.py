"""The library's way to the network, closed: handlers run inside a transaction and never wait for Telegram."""

from __future__ import annotations

from typing import Any

import msgspec
from telegram.request import BaseRequest

from kiebot.bot.settings import BotSettings


class OfflineRequest(BaseRequest):
    """Answers `getMe` from what is known, so that the library starts without a call; refuses everything else."""

    def __init__(self, settings: BotSettings, bot_id: int) -> None:
        self._me = {"id": bot_id, "is_bot": True, "first_name": "kiebot", "username": settings.bot_username}

    @property
    def read_timeout(self) -> float | None:
        return None

    async def initialize(self) -> None:
        """There is nothing to open."""

    async def shutdown(self) -> None:
        """There is nothing to close."""

    async def do_request(self, url: str, method: str, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        """Raises: RuntimeError, for any method but getMe: messages go through the outbox."""
        name = url.rpartition("/")[2]
        if name != "getMe":
            raise RuntimeError(f"a handler called {name}; messages go through the outbox")
        return 200, msgspec.json.encode({"ok": True, "result": self._me})
