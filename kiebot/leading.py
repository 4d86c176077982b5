"""What the holder of the lease does: poll, or keep the webhook set. Never both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from kiebot.bootstrap import Adapters
from kiebot.bot.menu import menus
from kiebot.errors import KiebotError
from kiebot.intake.poller import Poller, PollerStats
from kiebot.intake.ports import Conflict
from kiebot.intake.rush import Rush
from kiebot.intake.webhook import WebhookKeeper
from kiebot.lease.term import Term

log = structlog.get_logger()

MENU_AFTER_S = 1.0


class Leading:
    """The candidate's work. `stats` adds up over all terms of this process.

    `on_rush(True)` is called while Telegram's queue is long, `on_rush(False)` when it is not, or not ours any more.
    """

    def __init__(self, adapters: Adapters, on_rush: Callable[[bool], None]) -> None:
        self._adapters = adapters
        self._on_rush = on_rush
        self._menu_is_set = False
        self._webhook = WebhookKeeper(self._ensure_webhook, self._set_menu, clock=adapters.clock)
        self.poller: Poller | None = None
        self._stats = PollerStats()

    @property
    def stats(self) -> PollerStats | None:
        return self._stats if self.poller is not None else None

    async def lead(self, term: Term) -> None:
        """Until cancelled, or until the term is over. Raises what Candidate's work may raise."""
        if self._adapters.settings.bot_mode == "webhook":
            return await self._webhook.run(term)
        source = self._adapters.source()
        looking = asyncio.create_task(self._adapters.setup.ensure_polling())  # at once: the fence takes its time, too
        menu = asyncio.create_task(self._set_menu_later())
        adapters = self._adapters
        self.poller = Poller(
            Rush(source, self._on_rush, adapters.clock),
            adapters.inbox,
            adapters.queue,
            adapters.checkouts,
            clock=adapters.clock,
            prepare=self._preparing(looking),
            stats=self._stats,
        )
        try:
            await self.poller.run(term)
        finally:
            self._on_rush(False)
            for beside in (looking, menu):
                beside.cancel()
            await asyncio.gather(looking, menu, return_exceptions=True)
            await source.aclose()

    def _preparing(self, looking: asyncio.Task[bool]) -> Callable[[], Awaitable[None]]:
        """Polling needs a bot without a webhook. Nothing that waits at Telegram is dropped."""
        looks = [looking]

        async def prepare() -> None:
            await (looks.pop() if looks else self._adapters.setup.ensure_polling())

        return prepare

    async def _set_menu_later(self) -> None:
        """When polls have begun: users wait for those."""
        await self._adapters.clock.sleep(MENU_AFTER_S)
        await self._set_menu()

    async def _ensure_webhook(self) -> None:
        settings = self._adapters.settings
        await self._adapters.setup.ensure_webhook(settings.webhook_address or "", settings.webhook_secret_value)

    async def _set_menu(self) -> None:
        if self._menu_is_set:
            return
        try:
            await self._adapters.setup.sync_commands(menus())
            self._menu_is_set = True
        except (KiebotError, Conflict) as error:  # a menu is no reason not to listen
            log.warning("commands.not_synced", why=str(error))
