"""Readiness of a holder that hears nothing, however alive it looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kiebot.clock import ManualClock
from kiebot.intake.poller import PollerStats
from kiebot.lease.chronicle import LeaseCounts, Standing
from kiebot.visitors import Visitors


@dataclass
class Replica:
    """As it stands; the stores are out of reach, which this question does not need."""

    standing: Standing
    poller_stats: PollerStats
    is_draining: bool = False
    generations: Any = None


@pytest.mark.parametrize(
    ("is_holder", "held_s", "silent_s", "said"),
    [
        (True, 500.0, 59.0, "ok"),
        (True, 500.0, 61.0, "no poll ended for 61 s"),
        (True, 10.0, 500.0, "ok"),  # it leads for ten seconds only
        (True, 61.0, None, "no poll ended for 61 s"),
        (False, 0.0, 500.0, "ok"),
    ],
)
async def test_a_holder_is_not_ready_when_no_poll_ended_for_a_minute(
    is_holder: bool, held_s: float, silent_s: float | None, said: str
) -> None:
    clock = ManualClock()
    last = None if silent_s is None else clock.now() - timedelta(seconds=silent_s)
    standing = Standing("poller", "r1", is_holder, "token", held_s, 8.0, True, LeaseCounts())
    settings = SimpleNamespace(kie_webhook_key=None, bot_mode="polling")
    adapters = cast(
        "Any", SimpleNamespace(settings=settings, clock=clock, engine=None, redis=SimpleNamespace(ping=None))
    )
    replica = Replica(standing, PollerStats(last_completed_poll_at=last))
    assert (await Visitors(adapters, replica).readiness())["updates"] == said
