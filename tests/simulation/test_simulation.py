"""Some seeds of the simulation, and every mutant. `./dev simulate` runs thousands."""

from __future__ import annotations

import pytest

from tests.simulation.many import be_quiet
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.storm import simulate


@pytest.fixture(autouse=True)
def quiet() -> None:
    be_quiet()


@pytest.mark.parametrize("first", range(0, 200, 10))
def test_nothing_is_lost_doubled_or_reordered_and_one_acts_when_the_storm_is_over(first: int) -> None:
    for seed in range(first, first + 10):
        result = simulate(seed)
        assert result.violations == [], f"./dev simulate --seed {seed}"
        assert result.counts["handled"] == result.counts["updates"] > 0


def test_a_seed_is_always_the_same_run() -> None:
    assert simulate(3) == simulate(3)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_broken_rule_is_found(mutant: Mutant) -> None:
    assert any(
        mutant.says in violation
        for seed in range(mutant.found_within)
        for violation in simulate(seed, mutant).violations
    )
