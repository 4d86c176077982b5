from __future__ import annotations

import ast
import asyncio

import pytest

from kiebot.engines import Engines
from tests.crashpoints.mutants import MUTANTS
from tests.crashpoints.points import MODULES, NOT_READ, ROOT, left_out, listed, placed
from tests.crashpoints.stories import STORIES
from tests.crashpoints.troupe import Job, open_troupe

HANDLED = ("intake/drain.py", "self._handler.handle(tx", "after")  # the purchase is written, and not committed
SUBMITTED = (
    "generation/submit.py",
    "self._tools.provider.submit(submission)",
    "after",
)  # billed; nobody knows the task
CAPTURED = ("generation/effects.py", "await tx.ledger.capture(", "after")  # taken, and not committed
SENT = ("delivery/results.py", "await self._post_best(", "after")  # it stands in the chat; nobody has noted it
DECIDED = ("delivery/courier.py", "await self._dispatch(row)", "before")  # not sent yet


def test_every_await_of_the_engine_is_listed_once() -> None:
    points = listed()
    assert len(points) == len(set(points)) > 500


@pytest.mark.parametrize("package", ["generation", "delivery"])
def test_no_module_of_the_engine_that_waits_is_forgotten(package: str) -> None:
    waiting = {
        f"kiebot.{package}.{path.stem}"
        for path in (ROOT / "kiebot" / package).glob("*.py")
        if any(isinstance(node, ast.Await | ast.AsyncWith) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    }
    assert waiting - {*MODULES} == {name for name in NOT_READ if f".{package}." in name}


def test_what_is_left_out_still_exists() -> None:
    assert not set(left_out()) & set(listed())


def test_every_story_has_a_name_of_its_own() -> None:
    names = [story.name for story in STORIES]
    assert len(names) == len(set(names))


async def test_wherever_the_engine_ends_another_replica_brings_the_generation_to_one_end(engines: Engines) -> None:
    """A sample; all of them: `./dev soak crashpoints`."""
    async with open_troupe(engines.database_url, engines.redis_url, "sample", size=1) as troupe:
        jobs = [Job("success", placed(*place)) for place in (HANDLED, SUBMITTED, CAPTURED, SENT)]
        played = await asyncio.gather(*(troupe.play(job) for job in jobs))
    assert [(job, each) for job, each in zip(jobs, played, strict=True) if each.wrong or not each.was_killed] == []
    assert [each.repeats for each in played] == [0, 0, 0, 1]  # sent and not noted: the one thing that happens twice


@pytest.mark.parametrize(("mutant", "place"), [("resubmit", SUBMITTED), ("mark-first", DECIDED)])
async def test_a_broken_rule_is_found(mutant: str, place: tuple[str, str, str], engines: Engines) -> None:
    prefix = f"mutant_{mutant.replace('-', '_')}"
    async with open_troupe(engines.database_url, engines.redis_url, prefix, size=1, mutant=mutant) as troupe:
        played = await troupe.play(Job("success", placed(*place, mutant=mutant)))
    assert played.was_killed
    assert played.wrong


def test_a_mutant_breaks_a_rule_that_still_stands_there() -> None:
    for name in MUTANTS:
        assert listed(name)
