"""The update queue of one bot: ids, expiry by type, and what an offset deletes."""

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import Json, encode

MAX_UPDATES = 100_000
MAX_QUEUE_BYTES = 128 * 1024 * 1024
MAX_UPDATE_BYTES = 512 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_DAY_S = 86_400.0
_SWEEP_EVERY_S = 60.0
_BELIEVED_BEYOND_TAIL = 10
_FIRST_ID_LOW, _FIRST_ID_HIGH = 2_000_001, 1_000_000_000

_SHORT_LIVES_S = {
    "callback_query": 150.0,
    "shipping_query": 150.0,
    "pre_checkout_query": 150.0,
    "inline_query": 30.0,
    "chosen_inline_result": 600.0,
}
_LIVE_FROM_ARRIVAL = frozenset(
    {"poll", "poll_answer", "business_connection", "deleted_business_messages", "purchased_paid_media", "managed_bot"}
)


@dataclass(slots=True, eq=False)
class StoredUpdate:
    """One update, ready to be sent. `lane` names what a webhook must keep in order."""

    update_id: int
    kind: str
    lane: str
    expires_at: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Purge:
    """Updates that ended unread. Reasons: expired, dropped, full, too_big, too_old, not_allowed, logged_out."""

    at: float
    reason: str
    kind: str
    update_id: int | None


def expires_at(kind: str, payload: Json, now: float) -> float:
    """Unix seconds after which an update is not given out any more."""
    if kind in _SHORT_LIVES_S:
        return now + _SHORT_LIVES_S[kind]
    if kind in _LIVE_FROM_ARRIVAL:
        return now + _DAY_S
    return float(payload.get("edit_date") or payload.get("date") or now) + _DAY_S


class UpdateQueue:
    """Holds updates until an offset confirms them or they expire. Nothing else takes them away.

    Storing, confirming and reading cost what they touch, never the length of the queue; expired updates in the middle
    are swept at most once a minute.
    """

    def __init__(self, clock: SimClock, rng: random.Random, on_purge: Callable[[Purge], None]) -> None:
        self._clock = clock
        self._rng = rng
        self._on_purge = on_purge
        self._updates: OrderedDict[int, StoredUpdate] = OrderedDict()
        self._bytes = 0
        self._swept_at = clock.now()
        self.tail = rng.randint(_FIRST_ID_LOW, _FIRST_ID_HIGH)

    def __len__(self) -> int:
        """Everything unconfirmed: given out or not, expired but not swept included."""
        self._sweep_sometimes()
        return len(self._updates)

    @property
    def head(self) -> int:
        return next(iter(self._updates)) if self._updates else self.tail

    def store(self, kind: str, payload: Json, lane: str) -> StoredUpdate | None:
        """The stored update; None when it is dropped: too old, too big or no room. Only stored updates use up an id."""
        self._sweep_sometimes()
        now = self._clock.now()
        ends = expires_at(kind, payload, now)
        body = b'{"update_id":%d,"%s":' % (self.tail, kind.encode()) + encode(payload) + b"}"
        reason = self._refusal(ends <= now, len(body))
        if reason:
            self._on_purge(Purge(now, reason, kind, None))
            return None
        update = StoredUpdate(self.tail, kind, lane, ends, body)
        self._updates[self.tail] = update
        self._bytes += len(body)
        self.tail += 1
        return update

    def _refusal(self, is_too_old: bool, size: int) -> str:
        if is_too_old:
            return "too_old"
        if size > MAX_UPDATE_BYTES:
            return "too_big"
        is_full = len(self._updates) >= MAX_UPDATES or self._bytes + size > MAX_QUEUE_BYTES
        return "full" if is_full else ""

    def read(self, offset: int, limit: int) -> list[StoredUpdate]:
        """Confirm what the offset confirms, at once; return up to `limit` updates and about 4 MiB from there on."""
        self._sweep_sometimes()
        if offset < 0:
            self._keep_last(-offset)
        elif offset > 0 and offset <= self.tail + _BELIEVED_BEYOND_TAIL:
            self._confirm_below(offset)
        return self._oldest(limit)

    def _confirm_below(self, offset: int) -> None:
        updates = self._updates
        while updates and next(iter(updates)) < offset:
            self._bytes -= len(updates.popitem(last=False)[1].body)

    def _keep_last(self, count: int) -> None:
        if count < len(self._updates):
            self._confirm_below(next(islice(reversed(self._updates), count - 1, None)))

    def _oldest(self, limit: int) -> list[StoredUpdate]:
        now, size = self._clock.now(), 0
        found: list[StoredUpdate] = []
        expired: list[StoredUpdate] = []
        for update in self._updates.values():
            if update.expires_at <= now:
                expired.append(update)
                continue
            if len(found) == limit or (found and size + len(update.body) > MAX_ANSWER_BYTES):
                break
            found.append(update)
            size += len(update.body)
        for update in expired:
            self._purge(update, "expired")
        return found

    def is_live(self, update: StoredUpdate) -> bool:
        """Whether an update is stored and not expired."""
        return update.update_id in self._updates and update.expires_at > self._clock.now()

    def remove(self, update: StoredUpdate, reason: str = "") -> None:
        """Take one update out: accepted by a webhook, or given up for a reason."""
        if reason:
            self._purge(update, reason)
        elif self._updates.pop(update.update_id, None) is not None:
            self._bytes -= len(update.body)

    def clear(self, reason: str) -> None:
        for update in list(self._updates.values()):
            self._purge(update, reason)

    def restart_ids(self) -> int:
        """Jump to a lower random id, as after a quiet week in which everything stored expired. Returns the new id."""
        self.clear("expired")
        self.tail = self._rng.randint(1, max(1, self.tail - MAX_UPDATES - 1))
        return self.tail

    def since(self, update_id: int) -> list[StoredUpdate]:
        """Stored updates with that id or a later one, oldest first; looks only at those."""
        newest_first = []
        for update in reversed(self._updates.values()):
            if update.update_id < update_id:
                break
            newest_first.append(update)
        return newest_first[::-1]

    def snapshot(self) -> list[StoredUpdate]:
        """Everything stored, oldest first."""
        return list(self._updates.values())

    def _purge(self, update: StoredUpdate, reason: str) -> None:
        if self._updates.pop(update.update_id, None) is not None:
            self._bytes -= len(update.body)
            self._on_purge(Purge(self._clock.now(), reason, update.kind, update.update_id))

    def _sweep_sometimes(self) -> None:
        now = self._clock.now()
        if now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        for update in [update for update in self._updates.values() if update.expires_at <= now]:
            self._purge(update, "expired")
