"""What Telegram is told about the bot as a whole: polling or a webhook, and the command menu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from telegram import Bot, BotCommand, WebhookInfo

from kiebot.botapi.errors import asking
from kiebot.botapi.updates import ALLOWED_UPDATES
from kiebot.errors import Transient


@dataclass(frozen=True, slots=True)
class TokenState:
    """Who the token's bot is, and how its updates leave Telegram. `webhook_url` is empty when it is polled."""

    bot_id: int
    username: str
    name: str
    webhook_url: str
    pending_update_count: int
    allowed_updates: tuple[str, ...]  # empty: Telegram's default
    last_error: str | None = None  # of the webhook's last failed delivery
    last_error_at: datetime | None = None


class TelegramSetup:
    """All of it may be repeated at will. Raises what UpdateSource.fetch raises: Conflict, RateLimited, Transient,
    Permanent (the token or an argument is refused)."""

    def __init__(self, bot: Bot, *, allowed_updates: Sequence[str] = ALLOWED_UPDATES) -> None:
        self._bot = bot
        self._allowed = tuple(allowed_updates)

    async def token_state(self) -> TokenState:
        """Disturbs no poll: any replica may ask."""
        with asking("getMe"):
            me = await self._bot.get_me()
        hook = await self._webhook()
        return TokenState(
            bot_id=me.id,
            username=me.username or "",
            name=me.first_name,
            webhook_url=hook.url,
            pending_update_count=hook.pending_update_count,
            allowed_updates=tuple(hook.allowed_updates or ()),
            last_error=hook.last_error_message,
            last_error_at=hook.last_error_date,
        )

    async def ensure_polling(self) -> bool:
        """No webhook is set, verified; waiting updates stay. True when there was one to remove."""
        if not (await self._webhook()).url:
            return False
        await self._delete_webhook(drop_pending=False)
        return True

    async def reset(self, *, drop_pending: bool) -> int:
        """Remove the webhook, set or not. Returns how many updates still wait; with `drop_pending` they are lost."""
        await self._delete_webhook(drop_pending=drop_pending)
        return (await self._webhook()).pending_update_count

    async def ensure_webhook(self, url: str, secret: str, *, max_connections: int = 40) -> None:
        """The webhook is `url`, verified. `secret` (1-256 of A-Z a-z 0-9 _ -) comes with every delivery.

        Telegram changes nothing when all is so already; its answer cannot say whether the secret was, so it is always
        sent. A refused address leaves the bot without a webhook.
        """
        with asking("setWebhook"):
            await self._bot.set_webhook(
                url, secret_token=secret, max_connections=max_connections, allowed_updates=self._allowed
            )
        if (await self._webhook()).url != url:
            raise Transient("setWebhook: another webhook is set")

    async def sync_commands(self, commands: Mapping[str, Sequence[tuple[str, str]]]) -> int:
        """Make the menus these: language code ("" for the rest) -> (command, description). Returns how many changed."""
        changed = 0
        for language, wanted in commands.items():
            code = language or None
            with asking("setMyCommands"):
                present = await self._bot.get_my_commands(language_code=code)
                if [(known.command, known.description) for known in present] != list(wanted):
                    await self._bot.set_my_commands([BotCommand(*pair) for pair in wanted], language_code=code)
                    changed += 1
        return changed

    async def _webhook(self) -> WebhookInfo:
        with asking("getWebhookInfo"):
            return await self._bot.get_webhook_info()

    async def _delete_webhook(self, *, drop_pending: bool) -> None:
        with asking("deleteWebhook"):
            await self._bot.delete_webhook(drop_pending_updates=drop_pending)
        if (await self._webhook()).url:
            raise Transient("deleteWebhook: a webhook is still set")
