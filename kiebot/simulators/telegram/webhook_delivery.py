"""Pushing updates to a webhook: ordered within a lane, lanes in parallel, retried until accepted or expired."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import msgspec

from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.queue import StoredUpdate

if TYPE_CHECKING:
    from kiebot.simulators.telegram.bot import Bot

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the name of a header, not a secret
_NO_ANSWER_S = 60.0
_RETRIES_S = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_MAX_RETRY_AFTER_S = 3600.0
_GONE_AFTER_S = 23 * 3600.0
_NOT_AS_REPLY = frozenset({"setwebhook", "deletewebhook", "close", "logout"})
_KEPT_DELIVERIES = 10_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST. `status` None: no answer. `at` is Unix seconds."""

    update_id: int
    attempt: int
    at: float
    status: int | None


class WebhookDelivery:
    """Delivers one bot's queue to one address until stopped."""

    def __init__(self, bot: "Bot", url: str, secret: str, max_connections: int) -> None:
        self._bot = bot
        self._url = url if "://" in url else "https://" + url
        self._headers = {"Content-Type": "application/json"} | ({SECRET_HEADER: secret} if secret else {})
        self._slots = asyncio.Semaphore(max_connections)
        limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
        transport = bot.world.webhook_transport
        self._http = httpx.AsyncClient(transport=transport, timeout=None, limits=limits, trust_env=False)  # noqa: S113
        self._lanes: dict[str, deque[StoredUpdate]] = {}
        self._offered = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._gone_since: float | None = None
        self.last_error: tuple[int, str] | None = None

    def wake(self) -> None:
        """Start work on everything stored since the last call."""
        for update in self._bot.queue.since(self._offered):
            self._offered = update.update_id + 1
            lane = self._lanes.get(update.lane)
            if lane is not None:
                lane.append(update)
                continue
            self._lanes[update.lane] = deque([update])
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(self._bot.world.tasks.spawn(self._run_lane(update.lane)))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._bot.world.tasks.spawn_closing(self._http.aclose())

    async def _run_lane(self, name: str) -> None:
        lane = self._lanes[name]
        while lane:
            await self._deliver(lane[0])
            lane.popleft()
        del self._lanes[name]

    async def _deliver(self, update: StoredUpdate) -> None:
        queue, attempt = self._bot.queue, 0
        while queue.is_live(update):
            async with self._slots:
                answer = await self._post(update, attempt)
            if answer is not None and answer.is_success:
                queue.remove(update)
                self._take_reply(answer)
                return
            wait = self._wait_s(attempt, answer)
            if self._bot.world.clock.now() + wait >= update.expires_at:
                break
            await self._bot.world.clock.sleep(wait)
            attempt += 1
        queue.remove(update, "expired")

    async def _post(self, update: StoredUpdate, attempt: int) -> httpx.Response | None:
        clock = self._bot.world.clock
        post = asyncio.ensure_future(self._http.post(self._url, content=update.body, headers=self._headers))
        limit = asyncio.ensure_future(clock.sleep(_NO_ANSWER_S))
        try:
            await asyncio.wait((post, limit), return_when=asyncio.FIRST_COMPLETED)
            answer = post.result() if post.done() else None
            text = (
                "Read timeout expired" if answer is None else f"Wrong response from the webhook: {answer.status_code}"
            )
        except httpx.HTTPError as error:
            answer, text = None, f"Connection failed: {type(error).__name__}"
        except asyncio.CancelledError:  # the webhook is removed; the receiver may have taken it
            self._note(update, attempt, None, "Connection closed")
            raise
        finally:
            post.cancel()
            limit.cancel()
        self._note(update, attempt, answer, text)
        return answer

    def _note(self, update: StoredUpdate, attempt: int, answer: httpx.Response | None, text: str) -> None:
        now = self._bot.world.clock.now()
        status = None if answer is None else answer.status_code
        deliveries = self._bot.webhook.deliveries
        deliveries.append(Delivery(update.update_id, attempt, now, status))
        del deliveries[:-_KEPT_DELIVERIES]
        if answer is None or not answer.is_success:
            self.last_error = (int(now), text)
        if status != 410:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
        elif now - self._gone_since >= _GONE_AFTER_S:
            self._bot.webhook.gone()

    def _wait_s(self, attempt: int, answer: httpx.Response | None) -> float:
        told = answer.headers.get("Retry-After", "") if answer is not None else ""
        if told.isdigit():
            return min(float(told), _MAX_RETRY_AFTER_S)
        return _RETRIES_S[attempt] if attempt < len(_RETRIES_S) else self._bot.world.rng.uniform(60.0, 120.0)

    def _take_reply(self, answer: httpx.Response) -> None:
        """A method in the body of an accepting answer is executed; nobody sees its result."""
        try:
            body = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
            method = msgspec.json.decode(body.pop("method"), type=str).lower()
        except (msgspec.MsgspecError, KeyError):
            return
        if method.startswith("get") or method in _NOT_AS_REPLY:
            return
        values = {name: _as_text(bytes(raw).decode()) for name, raw in body.items()}
        self._bot.execute(method, Arguments(values))


def _as_text(raw: str) -> str:
    return msgspec.json.decode(raw, type=str) if raw.startswith('"') else raw
