from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.storage.engine import make_engine
from kiebot.storage.ledger import LedgerRepository
from tests.conftest import empty
from tests.storage.ledger_walk import Tally, walk


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Hypothesis is no coroutine: the walk turns a loop of its own, step by step."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def tables(shared_database_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[AsyncEngine]:
    made = make_engine(shared_database_url, pool_size=2)
    loop.run_until_complete(empty(made))
    yield made
    loop.run_until_complete(made.dispose())


def test_whatever_happens_to_money_in_whatever_order_the_books_are_right(
    tables: AsyncEngine, loop: asyncio.AbstractEventLoop
) -> None:
    """The long walk is `./dev soak ledger`."""
    tally = Tally()
    walk(tables, loop, seed=20, sequences=8, steps=40, tally=tally)
    assert tally.steps > 300


def test_the_walk_notices_a_settlement_that_counts_twice(
    tables: AsyncEngine, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(self: LedgerRepository, generation_id: UUID, outcome: object, amount: int) -> bool:
        await settle(self, generation_id, outcome, amount)  # type: ignore[arg-type]  # as it was called
        return True

    settle = LedgerRepository._settle
    monkeypatch.setattr(LedgerRepository, "_settle", always)
    monkeypatch.setattr(LedgerRepository, "_must_be_the_same", _looks_away)
    with pytest.raises(AssertionError):
        walk(tables, loop, seed=20, sequences=20, steps=40, tally=Tally(), shrinks=False)


async def _looks_away(self: LedgerRepository, posting: object) -> None:
    return
