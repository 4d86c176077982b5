"""Sends callbacks as the service does, and in every way in which it or a stranger goes wrong."""

import asyncio
import contextlib
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.outbound import Outbound
from kiebot.simulators.kie.purse import Purse
from kiebot.simulators.kie.records import callback_bodies, forged_body
from kiebot.simulators.kie.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign, sign_in_hex, signed_headers
from kiebot.simulators.kie.switches import CallbackMode, Switches
from kiebot.simulators.kie.tasks import Delivery, Task, TaskBook

T = TypeVar("T")

FORGED_URL = "https://evil.example/forged.png"
STALE_S = 3_600

_SIGNINGS = ("unsigned", "wrong_signature", "hex_signature", "stale")


class CallbackSender:
    """One watcher per task with a callBackUrl; each ends when its callbacks have been taken or given up."""

    def __init__(self, clock: SimClock, switches: Switches, purse: Purse, outbound: Outbound) -> None:
        self._clock, self._switches, self._purse, self._outbound = clock, switches, purse, outbound
        self._watchers: set[asyncio.Task[None]] = set()
        self._held: Task | None = None
        self.book: TaskBook | None = None
        self.strays: list[Delivery] = []
        """Deliveries that belong to no task."""

    def watch(self, task: Task) -> None:
        """Send the task's callbacks when their time comes."""
        if task.callback_url:
            self._spawn(self._run(task, task.callback_url))

    async def forge(self, url: str, task_id: str, *, headers: dict[str, str] | None = None) -> int | None:
        """Post a made-up success for `task_id` as a stranger would. Returns the HTTP status, None without an answer."""
        delivery = await self._post(url, forged_body(task_id, "z-image", FORGED_URL), headers or {}, "forged")
        self.strays.append(delivery)
        return delivery.status

    async def aclose(self) -> None:
        """Stop every watcher."""
        watchers = list(self._watchers)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        watcher = asyncio.get_running_loop().create_task(work)
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _run(self, task: Task, url: str) -> None:
        modes = task.plan.callback_modes
        if "forged" in modes:
            half = task.plan.ends_at_s / 2
            await self._clock.sleep(half if math.isfinite(half) else 1.0)
            await self._send_once(task, url, forged_body(task.task_id, task.model, FORGED_URL), "forged", "unsigned")
        if "missing" in modes or not math.isfinite(task.plan.ends_at_s):
            return
        await self._clock.sleep(task.plan.ends_at_s - task.age_s)
        if self.book is not None:
            self.book.settle_due()
        if "late" in modes:
            await task.final_seen.wait()
            await self._clock.sleep(self._switches.callback_late_s)
        await self._deliver_in_turn(task, url)

    async def _deliver_in_turn(self, task: Task, url: str) -> None:
        if "out_of_order" in task.plan.callback_modes and self._held is None:
            self._held = task  # goes out after the next one that is finished
            return
        await self._deliver(task, url)
        held, self._held = self._held, None
        if held is not None and held.callback_url:
            await self._deliver(held, held.callback_url)

    async def _deliver(self, task: Task, url: str) -> None:
        modes = task.plan.callback_modes
        for body in callback_bodies(task, self._switches, self._purse.read()):
            await self._send_with_retries(task, url, body, "callback")
            if "duplicate" in modes:
                await self._send_with_retries(task, url, body, "duplicate")
        if "unknown_task" in modes:
            stranger = task.task_id[::-1]
            await self._send_once(
                task, url, forged_body(stranger, task.model, FORGED_URL), "unknown_task", None, stranger
            )
        if "replayed" in modes:
            # The signature does not cover the body, so a captured pair of headers fits any other one.
            await self._send_once(task, url, forged_body(task.task_id, task.model, FORGED_URL), "replayed", None)

    async def _send_with_retries(self, task: Task, url: str, body: dict[str, Any], kind: str) -> None:
        pauses = [pause * self._switches.of(task.model).duration_scale for pause in self._switches.callback_retries_s]
        signing = next((mode for mode in task.plan.callback_modes if mode in _SIGNINGS), None)
        for pause in [*pauses, None]:
            delivery = await self._send_once(task, url, body, kind, signing)
            if delivery.status == 200 or pause is None:
                return
            kind = "retry"
            await self._clock.sleep(pause)

    async def _send_once(
        self,
        task: Task,
        url: str,
        body: dict[str, Any],
        kind: str,
        signing: CallbackMode | None,
        task_id: str | None = None,
    ) -> Delivery:
        headers = self._headers(task_id or task.task_id, signing)
        delivery = await self._post(url, body, headers, kind)
        task.callbacks.append(delivery)
        return delivery

    def _headers(self, task_id: str, signing: CallbackMode | None) -> dict[str, str]:
        key, now = self._switches.webhook_key, int(self._clock.now())
        if not key or signing == "unsigned":
            return {}
        match signing:
            case "wrong_signature":
                return {TIMESTAMP_HEADER: str(now), SIGNATURE_HEADER: sign(key + "?", task_id, now)}
            case "hex_signature":
                return {TIMESTAMP_HEADER: str(now), SIGNATURE_HEADER: sign_in_hex(key, task_id, now)}
            case "stale":
                return signed_headers(key, task_id, now - STALE_S)
            case _:
                return signed_headers(key, task_id, now)

    async def _post(self, url: str, body: dict[str, Any], headers: dict[str, str], kind: str) -> Delivery:
        at = self._clock.now()
        try:
            response = await within(self._clock, self._switches.callback_timeout_s, self._call(url, body, headers))
        except TimeoutError:
            return Delivery(at, url, kind, None, "timed out")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Delivery(at, url, kind, None, type(error).__name__)
        return Delivery(at, url, kind, response.status_code)

    async def _call(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        return await self._outbound.client.post(url, json=body, headers=headers)


async def within(clock: SimClock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, if it comes within that many seconds of the clock. Raises: TimeoutError, if not."""
    working = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((working, timer), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise TimeoutError
        return working.result()
    finally:
        for each in (working, timer):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(working, timer, return_exceptions=True)
