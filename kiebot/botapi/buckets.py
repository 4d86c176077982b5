"""How often something may happen: leaky buckets that lend ahead, and the share a replica keeps to on its own. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

_CHATS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Bucket:
    """One per `interval_s` in the long run, `burst` of them at once."""

    interval_s: float
    burst: int

    def __post_init__(self) -> None:
        if self.interval_s <= 0 or self.burst < 1:
            raise ValueError("a bucket needs a positive interval and a burst of at least one")


@dataclass(frozen=True, slots=True)
class Limits:
    """Telegram's published limits, met in *every* window of their length: burst + what drips in stays within them.

    overall: 2 at once and 29 a second, so never above 30 in a second. group: 5 at once and one per 3.75 s, so never
    above 20 in a minute. chat (a private one): about one a second, short bursts tolerated.
    """

    overall: Bucket = Bucket(1 / 29, 2)
    chat: Bucket = Bucket(1.0, 3)
    group: Bucket = Bucket(3.75, 5)


@dataclass(frozen=True, slots=True)
class Send:
    """What a call takes: `count` messages of the whole bot's rate, one of the chat's; nothing with `count` 0.

    `has_turn`: the chat's is booked already."""

    chat: str
    is_group: bool
    count: int
    has_turn: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """`wait_s` from now; then it may go out, or when that was only the wait for its chat, ask again with `has_turn`."""

    wait_s: float
    is_whole: bool = True


class Meter:
    """One bucket's level: the instant at which it would be empty again."""

    def __init__(self) -> None:
        self.empty_at = 0.0

    def room_at(self, now: float, bucket: Bucket) -> float:
        """The instant from which one more fits."""
        return max(now, self.empty_at - bucket.interval_s * (bucket.burst - 1))

    def book(self, at: float, bucket: Bucket, count: int) -> None:
        self.empty_at = max(self.empty_at, at) + bucket.interval_s * count

    def fill(self, at: float, bucket: Bucket, count: int) -> None:
        """Book, but never beyond full: the next one waits an interval at most."""
        self.book(at, bucket, count)
        self.empty_at = min(self.empty_at, at + bucket.interval_s * bucket.burst)


class LocalShare:
    """What one of `replicas` may send while none knows of the others. Times are monotonic seconds."""

    def __init__(self, limits: Limits, replicas: int) -> None:
        overall = limits.overall
        self._limits = limits
        self._share = Bucket(overall.interval_s * replicas, max(1, overall.burst // replicas))
        self._overall = Meter()
        self._chats: defaultdict[str, Meter] = defaultdict(Meter)
        self._paused_until: dict[str, float] = {}

    def take(self, send: Send, now: float, max_wait_s: float) -> Turn:
        """When it may go out; booked, unless that is in more than `max_wait_s`."""
        bot_at, chat_at = (max(now, self._paused_until.get(name, now)) for name in ("", send.chat))
        if send.count:
            bot_at = self._overall.room_at(bot_at, self._share)
        if send.count and not send.has_turn:
            chat_at = self._chats[send.chat].room_at(chat_at, self._bucket(send))
        at = max(bot_at, chat_at)
        turn = Turn(at - now, is_whole=bot_at >= chat_at or not send.count)
        if turn.wait_s <= max_wait_s and send.count:
            if turn.is_whole:
                self._overall.book(at, self._share, send.count)
            if not send.has_turn:
                self._chats[send.chat].book(at, self._bucket(send), 1)
            self._forget(now)
        return turn

    def saw(self, send: Send, turn: Turn, now: float) -> None:
        """The replicas allowed this turn together: perhaps more than a share, but no debt."""
        if not send.count:
            return
        at = now + turn.wait_s
        if turn.is_whole:
            self._overall.fill(at, self._share, send.count)
        if not send.has_turn:
            self._chats[send.chat].fill(at, self._bucket(send), 1)
        self._forget(now)

    @property
    def chats_known(self) -> int:
        return len(self._chats)

    def pause(self, chat: str, until: float, now: float) -> None:
        """Nothing to that chat until then; "" means to nobody."""
        self._paused_until = {name: end for name, end in self._paused_until.items() if end > now}
        self._paused_until[chat] = max(until, self._paused_until.get(chat, until))

    def _bucket(self, send: Send) -> Bucket:
        return self._limits.group if send.is_group else self._limits.chat

    def _forget(self, now: float) -> None:
        if len(self._chats) <= _CHATS_KEPT:
            return
        for chat in [chat for chat, meter in self._chats.items() if meter.empty_at <= now]:
            del self._chats[chat]
