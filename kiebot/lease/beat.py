"""How long a grant still lasts, counted by whoever looks at it. Pure."""

from __future__ import annotations

from collections.abc import Hashable


class BeatWatch:
    """Follows one holder's heartbeat on the observer's own clock.

    What is seen is only whether the beat changed. So neither the holder's clock nor the store's can make a dead holder
    look alive, or a living one dead for longer than until its next beat.
    """

    def __init__(self) -> None:
        self._beat: Hashable = None
        self._since = 0.0

    def remaining(self, now: float, beat: Hashable, ttl_s: float, *, age_s: float = 0.0) -> float:
        """Seconds until the grant lapses unless the beat changes; below zero once it has.

        It goes on falling then: were it to stop at zero, an observer that expects it to fall would see it rise.

        Args: now, monotonic seconds of the observer; beat, anything that differs from one beat to the next; age_s, how
            old a beat seen for the first time is said to be.
        """
        if beat != self._beat:
            self._beat = beat
            self._since = now - min(max(age_s, 0.0), ttl_s)
        return ttl_s - (now - self._since)
