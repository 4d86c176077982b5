"""An admin and a user of one cluster: what the one decides, the other sees."""

from __future__ import annotations

from tests.scenarios.buying import creates, gets_media
from tests.scenarios.crew import Crew


async def test_a_pause_is_seen_on_the_card_and_its_end_brings_the_result(crew: Crew) -> None:
    world = crew.world
    boss, anna = world.tg.user(name="Boss"), world.tg.user(name="Anna")
    for _ in range(2):
        crew.start(ADMIN_IDS=str(boss.user_id))
    await anna.sends("/pause")
    await anna.hears("I do not know /pause")

    await boss.sends("/pause moving house")
    await boss.hears("Pause all new works?")
    await boss.presses("Yes, do it")
    await boss.hears("New works are paused")
    await creates(anna)
    await anna.hears("⏸ It waits")
    assert world.kie.journal.creates() == []

    await boss.sends("/resume")
    await boss.hears("Go on with new works?")
    await boss.presses("Yes, do it")
    await gets_media(anna)
    await world.settles()
    assert await world.rows("SELECT actor, action FROM audit ORDER BY id") == [
        (f"admin:{boss.user_id}", "generating.pause"),
        (f"admin:{boss.user_id}", "generating.resume"),
    ]
    await world.assert_books_are_right()
