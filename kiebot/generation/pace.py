"""When to look at a running task again. Pure. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from kiebot.generation.product import Model

_FIRST_POLL_CAP_S = 10.0
_INTERVAL_S = {"image": 3.0, "audio": 5.0, "video": 10.0}
_INTERVAL_CAP_S = {"image": 15.0, "audio": 20.0, "video": 30.0}
_DEADLINE_S = {"image": 600.0, "audio": 900.0, "video": 2700.0}
_GROWTH = 1.5
_STALLED_EVERY_S = 600.0
_RESULT_EVERY_S = 3.0
_MISSINGS = 3
_BUSY_S = 120.0
_BUSY_CAP_S = 1800.0
_GIVE_UP_S = 24 * 3600.0
_TROUBLE_S = 4 * 3600.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """The rhythm of watching. `scale` shortens every wait alike: simulators make results faster than any provider.

    visibility_s: how long a task that nobody has seen yet may stay invisible before it counts as lost.
    result_patience_s: how long a finished task's file may still be out of reach. Hosts fail for hours, and the money
    is held for two days. doubt_s: the same for a file that is there and no media: a host's error pages look so.
    """

    scale: float = 1.0
    visibility_s: float = 90.0
    result_patience_s: float = 24 * 3600.0
    doubt_s: float = 900.0

    def first_poll_s(self, model: Model) -> float:
        return self.scale * min(model.expected_seconds / 3, _FIRST_POLL_CAP_S)

    def next_poll_s(self, model: Model, polls: int) -> float:
        start = _INTERVAL_S.get(model.output, 5.0)
        cap = _INTERVAL_CAP_S.get(model.output, 20.0)
        return self.scale * min(start * _GROWTH ** min(polls, 20), cap)

    def is_stalled(self, model: Model, running_s: float) -> bool:
        """Past its deadline: not failed, but watched slowly from now on."""
        return running_s > self.scale * _DEADLINE_S.get(model.output, 900.0)

    def stalled_poll_s(self) -> float:
        return self.scale * _STALLED_EVERY_S

    def is_hopeless(self, running_s: float) -> bool:
        return running_s > self.scale * _GIVE_UP_S

    def busy_s(self, busies: int) -> float:
        """The provider had no room for a task, for the so many-th time before this one: minutes until the next."""
        return self.scale * min(_BUSY_S * 2.0 ** min(busies, 10), _BUSY_CAP_S)

    def trouble_is_over(self, setbacks: int, troubled_s: float) -> bool:
        """So many uploads or submits in a row met faults, this one included, the first of them so long ago. By time and
        not by their number: in an outage most of the time goes by waiting for a turn to try."""
        return setbacks >= _TRIES and troubled_s > self.scale * _TROUBLE_S

    def orphan_wait_s(self, model: Model) -> float:
        """How long a lost task may still turn up through its callback address: twice its usual time."""
        return self.scale * max(2.0 * model.expected_seconds, 60.0)

    def is_lost(self, missings: int, missing_s: float) -> bool:
        """So many answers in a row did not know the task, the first of them so long ago. One such answer says nothing:
        providers have given it for tasks that were running."""
        return missings >= _MISSINGS and missing_s > self.scale * self.visibility_s

    def result_poll_s(self, ready_s: float) -> float:
        """A finished task whose file cannot be read: often at first, then ever more slowly."""
        return min(max(self.scale * _RESULT_EVERY_S, ready_s / 4), self.stalled_poll_s())

    def patience_is_over(self, ready_s: float, *, is_doubtful: bool = False) -> bool:
        """A finished task whose file still cannot be read, counted from the first report of its end."""
        return ready_s > self.scale * (self.doubt_s if is_doubtful else self.result_patience_s)
