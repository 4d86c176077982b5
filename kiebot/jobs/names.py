"""Which jobs there are, and what each is told: a row and the revision that made the job worthwhile.

The revision is part of the id. Within one revision a job is queued once, however often it is asked for; a new
revision is a new id, so arq's uniqueness never swallows the wake-up for a change that came while the job ran.

Some jobs do whatever waits when they begin, so one that has not begun yet stands for all of its row: these have a
`place` in the queue, see `Enqueuer`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

DRAIN_LANE: Final = "drain_lane"
ADVANCE: Final = "advance"
DELIVER: Final = "deliver"
REFRESH_CARD: Final = "refresh_card"
REPAY: Final = "repay"


@dataclass(frozen=True, slots=True)
class Job:
    """One wake-up: call `name` with `args` (plain values only), `delay_s` seconds from now.

    `id` is unique per kiebot; the queue puts its prefix before it. `place`: of all jobs with the same one, none more is
    queued while one is due and has not begun.
    Raises: ValueError, for an empty name or id, or a negative delay.
    """

    name: str
    args: tuple[int | str, ...]
    id: str
    delay_s: float = 0.0
    place: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.id or self.delay_s < 0:
            raise ValueError(f"not a job: {self!r}")


def drain_lane(lane_key: str, revision: int, *, delay_s: float = 0.0) -> Job:
    """Handle what waits in a lane, in order. In a backlog a lane is marked many times before its turn comes."""
    place = "" if delay_s else f"{DRAIN_LANE}:{lane_key}"
    return replace(_job(DRAIN_LANE, lane_key, revision, delay_s), place=place)


def advance(generation_id: str, revision: int, *, delay_s: float = 0.0) -> Job:
    """Take a generation one step further."""
    return _job(ADVANCE, generation_id, revision, delay_s)


def deliver(chat_id: int, revision: int, *, delay_s: float = 0.0) -> Job:
    """Send what waits in a chat."""
    return _job(DELIVER, chat_id, revision, delay_s)


def refresh_card(generation_id: str, revision: int, *, delay_s: float = 0.0) -> Job:
    """Bring a generation's status card up to its wanted version."""
    return _job(REFRESH_CARD, generation_id, revision, delay_s)


def repay(refund_id: int, revision: int, *, delay_s: float = 0.0) -> Job:
    """Ask the payment provider to pay back, and book it."""
    return _job(REPAY, refund_id, revision, delay_s)


def _job(name: str, row: int | str, revision: int, delay_s: float) -> Job:
    return Job(name, (row, revision), f"{name}:{row}:{revision}", delay_s)
