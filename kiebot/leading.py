"""What the holder of the lease does: poll, or keep the webhook set. Never both."""

from __future__ import annotations

import structlog

from kiebot.bootstrap import Adapters
from kiebot.bot.menu import menus
from kiebot.errors import KiebotError
from kiebot.intake.poller import Poller, PollerStats
from kiebot.lease.term import Term

log = structlog.get_logger()

WEBHOOK_CHECK_S = 60.0
WEBHOOK_RETRY_S = 5.0


class Leading:
    """The candidate's work. `stats` adds up over all terms of this process."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        self._menu_is_set = False
        self.poller: Poller | None = None

    @property
    def stats(self) -> PollerStats | None:
        return self.poller.stats if self.poller is not None else None

    async def lead(self, term: Term) -> None:
        """Until cancelled, or until the term is over. Raises what Candidate's work may raise."""
        if self._adapters.settings.bot_mode == "webhook":
            await self._keep_webhook()
        source = self._adapters.source()
        self.poller = Poller(
            source,
            self._adapters.inbox,
            self._adapters.queue,
            self._adapters.checkouts,
            clock=self._adapters.clock,
            prepare=self._prepare,
        )
        try:
            await self.poller.run(term)
        finally:
            await source.aclose()

    async def _prepare(self) -> None:
        """Polling needs a bot without a webhook. Nothing that waits at Telegram is dropped."""
        await self._adapters.setup.ensure_polling()
        await self._set_menu()

    async def _keep_webhook(self) -> None:
        """Set it, and look again now and then: somebody may have removed it."""
        settings = self._adapters.settings
        while True:
            try:
                await self._adapters.setup.ensure_webhook(settings.webhook_address or "", settings.webhook_secret_value)
                await self._set_menu()
            except KiebotError as error:
                log.error("webhook.not_set", why=str(error))
                await self._adapters.clock.sleep(WEBHOOK_RETRY_S)
                continue
            await self._adapters.clock.sleep(WEBHOOK_CHECK_S)

    async def _set_menu(self) -> None:
        if self._menu_is_set:
            return
        try:
            await self._adapters.setup.sync_commands(menus())
            self._menu_is_set = True
        except KiebotError as error:  # a menu is no reason not to listen
            log.warning("commands.not_synced", why=str(error))
