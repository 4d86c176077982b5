"""getUpdates: one parked poll per bot, the newer one wins, and conflict answers are paced."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kiebot.simulators.telegram.answers import (
    Answer,
    ApiError,
    ConnectionCut,
    conflict,
    failure,
    success_raw,
)
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.journal import Call
from kiebot.simulators.telegram.queue import StoredUpdate, UpdateQueue
from kiebot.simulators.telegram.subscriptions import Subscription
from kiebot.simulators.telegram.world import World

MAX_LIMIT = 100
MAX_TIMEOUT_S = 50
_PACE_S = 3.0
_SLOW_DOWN_S = 3
_LIMIT_ONE_WITHIN_S = 0.5
_ROUNDING_S = 1e-9

WEBHOOK_IS_ACTIVE = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
OTHER_POLL = "terminated by other getUpdates request; make sure that only one bot instance is running"
SET_WEBHOOK = "terminated by setWebhook request"


@dataclass(slots=True, eq=False)
class ParkedPoll:
    """A long poll that waits. Its client may be gone: nobody looks. Times are monotonic seconds."""

    call: Call
    offset: int
    limit: int
    answer: asyncio.Future[Answer]
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    first_stored_at: float | None = None
    last_stored_at: float = 0.0
    overlap: asyncio.Future[None] | None = None


class PollDesk:
    """Answers getUpdates for one bot, whoever asks."""

    def __init__(self, world: World, queue: UpdateQueue, subscription: Subscription) -> None:
        self._world = world
        self._queue = queue
        self._subscription = subscription
        self._parked: ParkedPoll | None = None
        self._previous: tuple[int, float] | None = None
        self._conflict_free_at = float("-inf")
        self.is_webhook_set = False

    @property
    def parked(self) -> Call | None:
        """The poll that waits now, orphaned or not."""
        return self._parked.call if self._parked else None

    def get_updates(self, call: Call, arguments: Arguments) -> Answer | asyncio.Future[Answer]:
        """Answer at once, or give a future for a poll that has to wait."""
        self._world.journal.poll_opened(call)
        if self.is_webhook_set:
            return self._paced(conflict(WEBHOOK_IS_ACTIVE))
        offset, limit, timeout = self._read(arguments)
        self._subscription.take(arguments)
        limit, timeout = self._slowed_down(offset, limit, timeout)
        updates = self._queue.read(offset, limit)
        if updates or not timeout:
            self._overlapped(updates)
            return _answer(call, updates)
        self.end(conflict(OTHER_POLL))
        return self._park(call, offset, limit, timeout)

    def _read(self, arguments: Arguments) -> tuple[int, int, int]:
        limit = arguments.integer("limit", MAX_LIMIT, 1, MAX_LIMIT)
        timeout = arguments.integer("timeout", 0, 0, MAX_TIMEOUT_S)
        return arguments.integer("offset"), limit, timeout

    def _slowed_down(self, offset: int, limit: int, timeout: int) -> tuple[int, int]:
        """The same offset again too soon, from whatever client, waits longer and gets less."""
        now = self._world.clock.monotonic()
        previous, self._previous = self._previous, (offset, now)
        if previous is not None and previous[0] == offset:
            if now - previous[1] < _SLOW_DOWN_S:
                timeout = max(timeout, _SLOW_DOWN_S)
            if now - previous[1] < _LIMIT_ONE_WITHIN_S:
                limit = 1
        return limit, timeout

    def _park(self, call: Call, offset: int, limit: int, timeout: int) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        poll = ParkedPoll(call, offset, limit, answer)
        self._parked = poll
        poll.tasks.append(self._world.tasks.spawn(self._time_out(poll, timeout)))
        return answer

    async def _time_out(self, poll: ParkedPoll, timeout: float) -> None:
        await self._world.clock.sleep(timeout)
        self._finish(poll)

    def updates_stored(self) -> None:
        """An update came in: wake the parked poll after a moment of quiet, so that close ones share its answer."""
        poll = self._parked
        if poll is None:
            return
        poll.last_stored_at = self._world.clock.monotonic()
        if poll.first_stored_at is None:
            poll.first_stored_at = poll.last_stored_at
            poll.tasks.append(self._world.tasks.spawn(self._wake(poll, poll.first_stored_at)))

    async def _wake(self, poll: ParkedPoll, first_stored_at: float) -> None:
        rules, clock = self._world.rules, self._world.clock
        while True:
            due = min(poll.last_stored_at + rules.wake_quiet_s, first_stored_at + rules.wake_max_s)
            left = due - clock.monotonic()
            if left <= _ROUNDING_S:
                break
            await clock.sleep(left)
        if self._world.faults.overlaps_due > 0:
            self._world.faults.overlaps_due -= 1
            poll.overlap = asyncio.get_running_loop().create_future()
            await poll.overlap
        self._finish(poll)

    def _overlapped(self, updates: list[StoredUpdate]) -> None:
        """A scripted overlap: somebody else was given the updates that the parked poll is about to get."""
        poll = self._parked
        if updates and poll is not None and poll.overlap is not None and not poll.overlap.done():
            poll.overlap.set_result(None)

    def _finish(self, poll: ParkedPoll) -> None:
        """Answer with what is there, by the offset it came with."""
        if self._parked is poll:
            self._take_out()
            _settle(poll, _answer(poll.call, self._queue.read(poll.offset, poll.limit)))

    def _take_out(self) -> ParkedPoll | None:
        poll, self._parked = self._parked, None
        if poll is not None:
            current = asyncio.current_task()
            for task in poll.tasks:
                if task is not current:
                    task.cancel()
        return poll

    def end(self, error: ApiError) -> None:
        """End the parked poll, if any, with a conflict; the answer may have to wait its turn."""
        poll = self._take_out()
        if poll is None:
            return
        answer = self._paced(error)
        if isinstance(answer, Answer):
            _settle(poll, answer)
        else:
            answer.add_done_callback(lambda done: None if done.cancelled() else _settle(poll, done.result()))

    def release(self) -> None:
        """Answer the parked poll with what is there: logOut and close do not refuse it."""
        if self._parked is not None:
            self._finish(self._parked)

    def restart(self, *, cuts: bool) -> None:
        """The server restarts: the parked poll is cut or told to retry; all memory of polls is gone."""
        poll = self._take_out()
        self._previous = None
        self._conflict_free_at = float("-inf")
        if poll is None or poll.answer.done():
            return
        if cuts:
            poll.answer.set_exception(ConnectionCut())
        else:
            error = ApiError(429, "Too Many Requests: retry after 5", {"retry_after": 5})
            poll.answer.set_result(failure(error))

    def _paced(self, error: ApiError) -> Answer | asyncio.Future[Answer]:
        """A conflict goes out at once, at most every 3 s; any other is held back exactly 3 s."""
        now = self._world.clock.monotonic()
        if now >= self._conflict_free_at:
            self._conflict_free_at = now + _PACE_S
            return failure(error)
        return self._world.tasks.spawn(self._held_back(error))

    async def _held_back(self, error: ApiError) -> Answer:
        await self._world.clock.sleep(_PACE_S)
        return failure(error)


def _settle(poll: ParkedPoll, answer: Answer) -> None:
    if not poll.answer.done():
        poll.answer.set_result(answer)


def _answer(call: Call, updates: list[StoredUpdate]) -> Answer:
    call.update_ids = tuple(update.update_id for update in updates)
    return success_raw(b"[" + b",".join([update.body for update in updates]) + b"]")
