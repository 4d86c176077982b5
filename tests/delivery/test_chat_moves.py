"""A group becomes a supergroup, with another id: what was under way for it arrives there."""

from __future__ import annotations

from sqlalchemy import text

from kiebot.delivery.outbox import Draft, say_payload
from kiebot.delivery.ports import Say
from kiebot.wakeups import Deliver
from tests.delivery.conftest import CHAT, Office

NEW = -100_070


async def test_messages_that_wait_for_a_group_go_to_its_new_id_in_their_order(office: Office) -> None:
    group = office.telegram.group(CHAT, kind="group")
    async with office.rig.database.transaction() as tx:
        drafts = [Draft(CHAT, "say", say_payload(Say(line))) for line in ("one", "two")]
        await tx.outbox.add_all(drafts, None)
    moved = group.becomes_supergroup(NEW)
    await office.courier.deliver(CHAT)
    assert [w.chat_id for w in office.rig.queue.wakeups if isinstance(w, Deliver)][-1] == NEW
    await office.courier.deliver(NEW)
    assert [message.text for message in moved.messages] == ["one", "two"]
    assert await office.waiting() == 0


async def test_an_edit_that_waits_becomes_a_message_there_because_the_old_ones_are_not(office: Office) -> None:
    group = office.telegram.group(CHAT, kind="group")
    async with office.rig.database.transaction() as tx:
        for say in (Say("a screen"), Say("its answer", edit_message_id=1)):
            await tx.outbox.add_all([Draft(CHAT, "say", say_payload(say))], None)
    moved = group.becomes_supergroup(NEW)
    for chat in (CHAT, NEW):
        await office.courier.deliver(chat)
    assert [message.text for message in moved.messages] == ["a screen", "its answer"]


async def test_the_status_card_of_a_group_that_moved_is_shown_and_taken_away_there(office: Office) -> None:
    group = office.telegram.group(CHAT, kind="group")
    await office.rig.grant(10)
    generation = await office.rig.order()
    await office.refresh(generation.id)
    assert len(group.messages) == 1
    moved = group.becomes_supergroup(NEW)
    await office.rig.engine.advance(generation.id)  # it runs now: the card is to say so
    for _ in range(2):
        await office.refresh(generation.id)
    assert len(moved.messages) == 1
    await office.rig.settles(generation.id)
    await office.courier.deliver(NEW)
    await office.refresh(generation.id)
    assert [message.media_kind for message in moved.messages] == ["photo"]
    assert await office.waiting() == 0


async def test_works_under_way_and_their_outcome_follow_the_first_message_that_hears_of_the_move(
    office: Office,
) -> None:
    group = office.telegram.group(CHAT, kind="group")
    await office.rig.grant(10)
    generation = await office.rig.order()
    other = await office.rig.order()
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE generations SET chat_id = 71 WHERE id = :id"), {"id": other.id})
    async with office.rig.database.transaction() as tx:
        await tx.outbox.add_all([Draft(CHAT, "say", say_payload(Say("hello")))], None)
    moved = group.becomes_supergroup(NEW)
    await office.courier.deliver(CHAT)
    assert (await office.rig.read(generation.id)).chat_id == NEW
    assert (await office.rig.read(other.id)).chat_id == 71
    await office.rig.settles(generation.id)
    await office.courier.deliver(NEW)
    assert [message.media_kind or message.text for message in moved.messages] == ["hello", "photo"]
