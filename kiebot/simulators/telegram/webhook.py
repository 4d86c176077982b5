"""setWebhook, deleteWebhook, getWebhookInfo: what may be set, and in what order things happen."""

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kiebot.simulators.telegram.answers import (
    Answer,
    Json,
    bad_request,
    conflict,
    failure,
    refuse,
    success,
    too_many_requests,
)
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.polling import SET_WEBHOOK
from kiebot.simulators.telegram.webhook_delivery import Delivery, WebhookDelivery

if TYPE_CHECKING:
    from kiebot.simulators.telegram.bot import Bot

MAX_SECRET = 256
MAX_CERTIFICATE_BYTES = 3 * 1024 * 1024
DEFAULT_CONNECTIONS, MAX_CONNECTIONS = 40, 100
_PORTS = (80, 88, 443, 8443)
_SECRET = re.compile(r"[A-Za-z0-9_-]*")
_AGAIN_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What setWebhook asked for; an empty url means no webhook."""

    url: str = ""
    secret: str = ""
    max_connections: int = DEFAULT_CONNECTIONS
    ip_address: str = ""
    has_certificate: bool = False


class WebhookDesk:
    """The webhook of one bot."""

    def __init__(self, bot: "Bot") -> None:
        self._bot = bot
        self._delivery: WebhookDelivery | None = None
        self._set_at = float("-inf")
        self._waiting: asyncio.Future[Answer] | None = None
        self.settings = WebhookSettings()
        self.deliveries: list[Delivery] = []
        self.setup_s = 0.0
        """How long closing the old webhook and verifying the new one take; nobody can poll meanwhile."""

    # methods

    def set(self, arguments: Arguments) -> Answer | asyncio.Future[Answer]:
        """setWebhook. Raises: ApiError."""
        wanted = _wanted(arguments)
        clock = self._bot.world.clock
        if wanted.url:
            if clock.monotonic() - self._set_at < _AGAIN_WITHIN_S:
                raise too_many_requests(1)
            self._set_at = clock.monotonic()
        self._bot.subscription.take(arguments)
        drops = arguments.boolean("drop_pending_updates")
        if wanted == self.settings and not wanted.has_certificate and not drops and self._waiting is None:
            return success(True, "Webhook is already set" if wanted.url else "Webhook is already deleted")
        self._kill_waiting()
        return self._replace(wanted, arguments, drops)

    def delete(self, arguments: Arguments) -> Answer | asyncio.Future[Answer]:
        """deleteWebhook: keeps the queue unless told to drop it, and leaves a parked poll alone."""
        for name in ("url", "secret_token", "ip_address"):
            arguments.values.pop(name, None)
        arguments.files.clear()
        return self.set(arguments)

    def info(self) -> Json:
        """getWebhookInfo: answered from memory, it disturbs nobody."""
        settings = self.settings
        info: Json = {"url": settings.url, "has_custom_certificate": settings.has_certificate}
        info["pending_update_count"] = len(self._bot.queue)
        if settings.url:
            info["ip_address"] = settings.ip_address or "<unknown>"
            info["max_connections"] = settings.max_connections
        if self._delivery is not None and self._delivery.last_error is not None:
            info["last_error_date"], info["last_error_message"] = self._delivery.last_error
        if self._bot.subscription.names is not None:
            info["allowed_updates"] = self._bot.subscription.names
        return info

    def updates_stored(self) -> None:
        if self._delivery is not None:
            self._delivery.wake()

    def gone(self) -> None:
        """The receiver answered nothing but 410 for too long: the webhook is removed."""
        self._remove()

    def stop(self) -> None:
        """End deliveries and forget the webhook."""
        self._kill_waiting()
        self._remove()

    # steps of a change

    def _replace(self, wanted: WebhookSettings, arguments: Arguments, drops: bool) -> Answer | asyncio.Future[Answer]:
        bot = self._bot
        if wanted.url:
            bot.polls.end(conflict(SET_WEBHOOK))
        self._remove()  # before anything is checked: a refused setWebhook leaves no webhook
        if drops:
            bot.queue.clear("dropped")
        if wanted.url:
            self._check(wanted, arguments)
        if self.setup_s > 0 and wanted.url:
            bot.polls.is_webhook_set = True
            return self._set_later(wanted)
        return self._install(wanted)

    def _install(self, wanted: WebhookSettings) -> Answer:
        if not wanted.url:
            return success(True, "Webhook was deleted")
        self.settings = wanted
        self._bot.polls.is_webhook_set = True
        self._delivery = WebhookDelivery(self._bot, wanted.url, wanted.secret, wanted.max_connections)
        self._delivery.wake()
        return success(True, "Webhook was set")

    def _set_later(self, wanted: WebhookSettings) -> asyncio.Future[Answer]:
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting = waiting

        async def install() -> None:
            await self._bot.world.clock.sleep(self.setup_s)
            if self._waiting is waiting:
                self._waiting = None
                waiting.set_result(self._install(wanted))

        self._bot.world.tasks.spawn(install())
        return waiting

    def _kill_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            self._bot.polls.is_webhook_set = False
            waiting.set_result(failure(conflict("terminated by other setWebhook")))

    def _remove(self) -> None:
        if self._delivery is not None:
            self._delivery.stop()
        self._delivery = None
        self.settings = WebhookSettings()
        self._bot.polls.is_webhook_set = False

    def _check(self, wanted: WebhookSettings, arguments: Arguments) -> None:
        if len(wanted.secret) > MAX_SECRET:
            refuse("secret token is too long")
        if not _SECRET.fullmatch(wanted.secret):
            refuse("secret token contains unallowed characters")
        certificate = arguments.files.get("certificate")
        if certificate is not None and len(certificate.data) > MAX_CERTIFICATE_BYTES:
            refuse(f"certificate size is too big ({len(certificate.data)} bytes)")
        self._check_address(wanted)

    def _check_address(self, wanted: WebhookSettings) -> None:
        rules = self._bot.world.rules
        try:
            parts = urlsplit(wanted.url if "://" in wanted.url else "https://" + wanted.url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise bad_request("invalid webhook URL specified") from error
        if not host or parts.scheme not in ("http", "https"):
            refuse("invalid webhook URL specified")
        if host in rules.unresolvable_hosts:
            refuse("bad webhook: Failed to resolve host: Name or service not known")
        if rules.local_server:
            return
        if parts.scheme != "https":
            refuse("bad webhook: An HTTPS URL must be provided for webhook")
        if (port or 443) not in _PORTS:
            refuse("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        _check_ip(wanted.ip_address or host)


def _check_ip(host: str) -> None:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return  # a name; which address it has is nobody's business here
    if address.version == 6:
        refuse("bad webhook: IPv6-only addresses are not allowed")
    if address.is_private or address.is_loopback or address.is_reserved or address.is_link_local:
        refuse(f"bad webhook: IP address {address} is reserved")


def _wanted(arguments: Arguments) -> WebhookSettings:
    url = arguments.text("url")
    if not url:
        return WebhookSettings()
    return WebhookSettings(
        url,
        arguments.text("secret_token"),
        arguments.integer("max_connections", DEFAULT_CONNECTIONS, 1, MAX_CONNECTIONS),
        arguments.text("ip_address"),
        "certificate" in arguments.files,
    )
