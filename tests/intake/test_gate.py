"""Who sends too much: recorded as ever, done without effect, told once; and nobody is turned away for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.intake.drain import MOST_OF_A_FLOOD, MOST_PER_DRAIN
from kiebot.intake.gate import Sifted, sift
from kiebot.intake.lanes import Waiting
from tests.intake.test_drain import LANE, Rig


class Gatekeeper:
    """Lets the first few of a lane through, and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[list[float]] = []

    async def admit(self, lane: str, sent_at: Sequence[float]) -> list[bool]:
        self.asked.append(list(sent_at))
        verdicts = [place < self.room for place in range(len(sent_at))]
        self.room -= sum(verdicts)
        return verdicts


@pytest.fixture
async def rig(engine: AsyncEngine) -> Rig:
    made = Rig(engine)
    await made.inbox.take_fence("t", "r")
    return made


async def _column(rig: Rig, query: str) -> list[object]:
    async with rig.database.engine.connect() as connection:
        return [row[0] for row in await connection.execute(text(query))]


async def test_what_is_turned_away_is_done_without_effect_and_its_sender_is_told(rig: Rig) -> None:
    await rig.receive(*range(1, 9))
    await (await rig.drainer(Gatekeeper(room=3))).drain(LANE)
    assert rig.scribe.seen == [1, 2, 3]
    assert rig.sent == ["too fast", "1", "2", "3"]
    assert await _column(rig, "SELECT count(*) FROM inbox WHERE done_at IS NULL") == [0]
    assert await _column(rig, "SELECT update_id FROM inbox WHERE last_error LIKE 'turned away%' ORDER BY id") == [
        4, 5, 6, 7, 8,
    ]  # fmt: skip


async def test_of_a_flood_much_is_turned_away_at_once(rig: Rig) -> None:
    await rig.receive(*range(1, 500))
    gate = Gatekeeper(room=2)
    drainer = await rig.drainer(gate)
    for _ in range(2):
        await drainer.drain(LANE)
    assert rig.scribe.seen == [1, 2]
    assert [len(sent) for sent in gate.asked] == [MOST_PER_DRAIN, MOST_PER_DRAIN, MOST_OF_A_FLOOD - MOST_PER_DRAIN]


async def test_what_was_let_through_is_worked_on_and_what_is_left_for_later_is_not_counted(rig: Rig) -> None:
    await rig.receive(*range(1, 500))
    gate = Gatekeeper(room=2)
    drainer = await rig.drainer(gate)
    await drainer.drain(LANE)
    gate.asked.clear()
    gate.room = 50
    await drainer.drain(LANE)
    assert [len(sent) for sent in gate.asked] == [MOST_PER_DRAIN]
    assert len(rig.scribe.seen) == 2 + MOST_PER_DRAIN
    assert await _column(rig, "SELECT count(*) FROM inbox WHERE done_at IS NULL") == [499 - 2 * MOST_PER_DRAIN]


async def test_an_update_that_is_to_be_tried_again_is_not_turned_away(rig: Rig) -> None:
    rig.scribe.breaks[1] = RuntimeError("broken")
    await rig.receive(1)
    gate = Gatekeeper(room=1)
    drainer = await rig.drainer(gate)
    await drainer.drain(LANE)
    del rig.scribe.breaks[1]
    async with rig.database.transaction() as tx:
        await tx.connection.execute(text("UPDATE inbox SET next_at = now()"))
    await drainer.drain(LANE)
    assert rig.sent == ["1"]


@pytest.mark.parametrize(
    "facts",
    [
        {"message": {"date": 1, "successful_payment": {"currency": "XTR"}}},
        {"message": {"date": 1, "refunded_payment": {"currency": "XTR"}}},
        {"my_chat_member": {"date": 1}},
    ],
)
async def test_money_and_blocks_are_never_turned_away(facts: dict[str, object]) -> None:
    update = Waiting(1, 1, json.dumps(facts).encode(), 0, False, 5.0)
    assert await sift(Gatekeeper(room=0), LANE, [update], 10) == Sifted([update], [])


async def test_words_about_a_payment_are_no_payment() -> None:
    said = json.dumps({"message": {"date": 1, "text": '"successful_payment": {}'}}).encode()
    update = Waiting(1, 1, said, 0, False, 5.0)
    assert await sift(Gatekeeper(room=0), LANE, [update], 10) == Sifted([], [update])


async def test_counted_is_when_an_update_was_sent_or_else_received() -> None:
    gate = Gatekeeper(room=9)
    said, pressed = (
        json.dumps({"message": {"date": 100}}).encode(),
        json.dumps({"callback_query": {"id": "1"}}).encode(),
    )
    broken = b"no update"
    waiting = [Waiting(n, n, payload, 0, False, 500.0) for n, payload in enumerate((said, pressed, broken))]
    await sift(gate, LANE, waiting, 10)
    assert gate.asked == [[100.0, 500.0, 500.0]]


async def test_a_drain_whose_claim_was_taken_turns_nobody_away(rig: Rig) -> None:
    await rig.receive(1, 2, 3)

    class Slow(Gatekeeper):
        async def admit(self, lane: str, sent_at: Sequence[float]) -> list[bool]:
            async with rig.database.transaction() as tx:
                await tx.connection.execute(text("UPDATE lanes SET claim_no = claim_no + 1"))
            return await super().admit(lane, sent_at)

    await (await rig.drainer(Slow(room=1))).drain(LANE)
    assert await _column(rig, "SELECT count(*) FROM inbox WHERE done_at IS NULL") == [3]
    assert rig.sent == []
