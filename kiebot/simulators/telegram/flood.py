"""Flood limits: counted over all connections of a bot, first felt as slow answers, then as 429."""

import math
from collections import defaultdict

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import ApiError, too_many_requests
from kiebot.simulators.telegram.journal import Call
from kiebot.simulators.telegram.rules import FloodRules

_UNSENT_RETRY_S = 60
_UNSENT_ANSWER_DELAY_S = 3.0
_SPACED_ABOVE_BYTES = 100_000
_SPACING_BACKLOG_S = 5.0
_ROUNDING_S = 1e-6


class FloodRefusal(Exception):
    """429; `delay_s`: the answer is to be held back that long."""

    def __init__(self, error: ApiError, delay_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.delay_s = delay_s


class Meter:
    """A leaky bucket that lends ahead: `wait` says when there is room, `take` books it even if that is later."""

    def __init__(self) -> None:
        self._empty_at = 0.0

    def wait(self, now: float, interval_s: float, burst: float) -> float:
        """Seconds until one more fits, if one takes `interval_s` to drain and `burst` fit at once."""
        wait = self._empty_at - now - interval_s * (burst - 1)
        return wait if wait > _ROUNDING_S else 0.0

    def take(self, now: float, interval_s: float, count: int = 1) -> None:
        self._empty_at = max(self._empty_at, now) + interval_s * count


class FloodControl:
    """Decides for one bot how long a send waits, or that it is refused."""

    def __init__(self, clock: SimClock, rules: FloodRules) -> None:
        self._clock = clock
        self._rules = rules
        self._overall = Meter()
        self._paid = Meter()
        self._chats: defaultdict[int, Meter] = defaultdict(Meter)
        self._sizes: defaultdict[int, Meter] = defaultdict(Meter)
        self._blocked: dict[int | None, float] = {}
        self._unsent: defaultdict[int, int] = defaultdict(int)

    def counts(self, method: str) -> bool:
        return self._rules.is_on and method in self._rules.counted

    def admit(self, call: Call, chat_id: int, *, is_group: bool, count: int, is_paid: bool) -> float:
        """Book `count` messages and return the seconds they must wait.

        Raises: FloodRefusal, when they would wait too long, or when an earlier refusal has not run out yet.
        """
        now = self._clock.monotonic()
        self._refuse_early(call, chat_id, now)
        if self._unsent[chat_id] >= self._rules.max_unsent_per_chat:
            raise FloodRefusal(too_many_requests(_UNSENT_RETRY_S), _UNSENT_ANSWER_DELAY_S)
        limits = self._limits(chat_id, is_group, is_paid)
        wait, scope = max(((m.wait(now, i, b), s) for m, i, b, s in limits), key=lambda found: found[0], default=(0, 0))
        if wait > self._rules.max_hold_s:
            self._blocked[scope] = now + math.ceil(wait)
            raise FloodRefusal(too_many_requests(math.ceil(wait)))
        for meter, interval_s, _, _ in limits:
            meter.take(now, interval_s, count)
        return wait

    def is_over_free_rate(self) -> bool:
        """Whether one more message now would exceed what is free; a paid broadcast then costs Stars."""
        rules = self._rules
        if rules.per_second <= 0:
            return False
        return self._overall.wait(self._clock.monotonic(), 1 / rules.per_second, rules.burst) > 0

    def holding(self, chat_id: int, change: int) -> None:
        """One more (+1) or one less (-1) request waits to be sent to that chat."""
        self._unsent[chat_id] += change
        if not self._unsent[chat_id]:
            del self._unsent[chat_id]

    def space_upload(self, size: int) -> float:
        """Seconds an upload waits because others of exactly its size came just before. Raises: FloodRefusal."""
        if not self._rules.spaces_same_size_uploads or size <= _SPACED_ABOVE_BYTES:
            return 0.0
        now, interval_s = self._clock.monotonic(), min(max(size * 1e-7, 0.2), 0.9)
        wait = self._sizes[size].wait(now, interval_s, 1 + 1 / interval_s)
        if wait > _SPACING_BACKLOG_S:
            raise FloodRefusal(too_many_requests(_UNSENT_RETRY_S))
        self._sizes[size].take(now, interval_s)
        return wait

    def _limits(self, chat_id: int, is_group: bool, is_paid: bool) -> list[tuple[Meter, float, float, int | None]]:
        rules = self._rules
        limits: list[tuple[Meter, float, float, int | None]] = []
        if is_paid and rules.paid_per_second > 0:
            limits.append((self._paid, 1 / rules.paid_per_second, rules.paid_per_second, None))
        elif rules.per_second > 0:
            limits.append((self._overall, 1 / rules.per_second, rules.burst, None))
        if is_group and rules.group_per_minute > 0:
            limits.append((self._chats[chat_id], 60 / rules.group_per_minute, rules.group_per_minute, chat_id))
        elif not is_group and rules.chat_per_second > 0:
            limits.append((self._chats[chat_id], 1 / rules.chat_per_second, rules.chat_burst, chat_id))
        return limits

    def _refuse_early(self, call: Call, chat_id: int, now: float) -> None:
        for scope in (None, chat_id):
            left = self._blocked.get(scope, 0.0) - now
            if left > _ROUNDING_S:
                call.is_too_early = True
                raise FloodRefusal(too_many_requests(math.ceil(left)))
            self._blocked.pop(scope, None)
