"""`./dev soak generations`, small: two dozen generations, real replicas, kills, and every promise asked."""

from __future__ import annotations

import random

import pytest

from kiebot.engines import Engines
from kiebot.simulators.kie.marks import read_marks
from tests.soak.generations.command import SMALL
from tests.soak.generations.profiles import PROFILES, Profile, deal
from tests.soak.generations.run import soak
from tests.soak.generations.table import table


@pytest.mark.slow
async def test_under_every_failure_and_kills_each_generation_ends_once_and_nobody_pays_twice(
    database_url: str, engines: Engines, redis_prefix: str
) -> None:
    told: list[str] = []
    evidence, verdicts = await soak(database_url, engines.redis_url, redis_prefix, SMALL, told.append)
    assert all(verdict.is_kept for verdict in verdicts), table(evidence, verdicts)
    assert len(evidence.works) == SMALL.works
    assert evidence.kills and evidence.checks
    assert any(evidence.is_unknown(work) for work in evidence.works)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_simulator_knows_every_mark_of_a_profile(profile: Profile) -> None:
    words = profile.prompt_marks(random.Random(0), 0.05).split()
    assert bool(words) or not profile.marks
    assert all(read_marks(word) != read_marks("") for word in words), "the simulator ignores what it does not know"


def test_every_profile_has_its_turn_in_a_long_run_and_a_seed_repeats_the_deal() -> None:
    dealt = deal(random.Random(5), 1000)
    assert set(dealt) == set(PROFILES)
    assert dealt == deal(random.Random(5), 1000)
