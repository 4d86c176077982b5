"""How a standby judges that the holder is dead before the store says so. Pure."""

from __future__ import annotations

import math
from enum import StrEnum

from kiebot.lease.protocol import Holder
from kiebot.lease.term import Timing

_SILENT_TTLS = 1.05  # longer than a lease lives, and soon enough for another to poll within 1.1 TTL


class Sign(StrEnum):
    """What gave a dead holder away."""

    DISCONNECTED = "disconnected"
    NOT_RENEWED = "not_renewed"


class DeathWatch:
    """Looks at one holder again and again, on the standby's own clock.

    Two signs, each enough to seize the term: its liveness connection is gone for `probe_misses` looks in a row during
    which the remaining time did not rise; or the remaining time has not risen for 1.05 TTL. The second never asks what
    time the store thinks it is, so it also covers a store whose clock was set back.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._silence_s = _SILENT_TTLS * timing.ttl_s
        self._tolerance_s = timing.renew_s / 4  # a renewal lifts the remaining time by about renew_s
        self._token: str | None = None
        self._remaining_s = 0.0
        self._seen_at = 0.0
        self._rose_at = 0.0
        self._misses = 0
        self._met = False  # this term's connection has been seen open

    @property
    def token(self) -> str | None:
        """The term looked at last."""
        return self._token

    @property
    def is_alarmed(self) -> bool:
        """Whether the last look found the holder's connection gone."""
        return self._misses > 0

    def has_run_out(self, now: float) -> bool:
        """Whether the lease seen last has simply expired by now. (Or is so close to it that it makes no difference.)"""
        return self._remaining_s - (now - self._seen_at) < self._tolerance_s / 2

    def due_in_s(self, now: float) -> float:
        """Seconds until something is to be seen at the latest: the lease has run out, or was not renewed for too long.

        Infinite when nobody was looked at yet; not above zero when that instant is past."""
        if self._token is None:
            return math.inf
        runs_out_at, given_up_at = self._seen_at + self._remaining_s, self._rose_at + self._silence_s
        return min(at - now for at in (runs_out_at, given_up_at))

    def observe(self, now: float, holder: Holder, connected: bool | None) -> Sign | None:
        """Take one look. `now` is monotonic seconds of the standby, `connected` what the store told of the holder."""
        if holder.token != self._token:
            self._start(now, holder)
        self._note_renewal(now, holder)
        self._note_connection(connected)
        if now - self._rose_at > self._silence_s:
            return Sign.NOT_RENEWED
        if self._misses >= self._timing.probe_misses and (self._met or self._is_overdue(holder)):
            return Sign.DISCONNECTED
        return None

    def blurred(self) -> None:
        """The store was out of reach: holders reconnect too, so misses so far prove nothing."""
        self._misses = 0
        self._met = False

    def _start(self, now: float, holder: Holder) -> None:
        self.blurred()
        self._token = holder.token
        self._remaining_s, self._seen_at, self._rose_at = holder.remaining_s, now, now

    def _note_renewal(self, now: float, holder: Holder) -> None:
        expected_s = self._remaining_s - (now - self._seen_at)
        if holder.remaining_s > expected_s + self._tolerance_s:
            # Somewhen since the last look. Of looks far apart that would count a fresh renewal as an old one.
            self._rose_at = max(self._seen_at, now - self._timing.renew_s / 2)
            self._misses = 0
        self._remaining_s, self._seen_at = holder.remaining_s, now

    def _note_connection(self, connected: bool | None) -> None:
        if connected:
            self._met = True
        self._misses = self._misses + 1 if connected is False else 0

    def _is_overdue(self, holder: Holder) -> bool:
        """Whether even a holder that lost one renewal should have renewed by now."""
        return holder.remaining_s < self._timing.ttl_s - 2.2 * self._timing.renew_s
