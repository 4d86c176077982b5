"""What was made reaches the chat in at most two messages, the first time and again; nothing of it is passed over."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from kiebot.botapi.messenger import TelegramMessenger
from kiebot.delivery.courier import Courier
from kiebot.delivery.outbox import Draft
from kiebot.delivery.ports import Media
from kiebot.delivery.results import FETCH_TRIES
from kiebot.generation.model import Generation
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.telegram.journal import Call
from tests.delivery.conftest import CHAT, Office

SENDS = ("sendPhoto", "sendVideo", "sendAnimation", "sendAudio", "sendDocument", "sendMediaGroup", "sendMessage")


async def made(office: Office, count: int, *, kind: str = "z-image") -> Generation:
    """Made and delivered."""
    office.telegram.user(CHAT)
    office.rig.kie.switches.urls = count
    await office.rig.grant(10_000)
    generation = await office.rig.settles((await office.rig.order(kind)).id)
    await office.courier.deliver(CHAT)
    assert await office.waiting() == 0
    return generation


async def sends_again(office: Office, generation: Generation, *, urls: list[str] | None = None) -> list[str]:
    """The methods by which it came, refused calls left out."""
    before = office.telegram.journal.last_number
    payload = {"urls": list(generation.result_urls) if urls is None else urls, "text": None, "resent": True}
    async with office.rig.database.transaction() as tx:
        await tx.outbox.add_all([Draft(CHAT, "result", payload, generation.id, key=f"again:{uuid4()}")], None)
    await office.courier.deliver(CHAT)
    assert await office.waiting() == 0
    return [call.method for call in sends_after(office, before) if call.is_ok]


def sends_after(office: Office, number: int) -> list[Call]:
    return [call for call in office.telegram.journal.calls(after=number) if call.method in SENDS]


async def forgets_its_files(office: Office) -> None:
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE artifacts SET file_id = 'unknown' || position"))


def links(office: Office) -> list[str]:
    markup = office.telegram.user(CHAT).last_message.body.get("reply_markup") or {"inline_keyboard": []}
    return [button["url"] for row in markup["inline_keyboard"] for button in row if "url" in button]


@pytest.mark.parametrize(("count", "methods"), [(1, ["sendPhoto"]), (3, ["sendMediaGroup", "sendMessage"])])
async def test_a_result_is_sent_again_by_its_ids_as_it_came(office: Office, count: int, methods: list[str]) -> None:
    generation = await made(office, count)
    assert await sends_again(office, generation) == methods


@pytest.mark.parametrize(("count", "methods"), [(1, ["sendPhoto"]), (3, ["sendMediaGroup", "sendMessage"])])
async def test_ids_that_telegram_does_not_take_any_more_are_uploaded_anew(
    office: Office, count: int, methods: list[str]
) -> None:
    generation = await made(office, count)
    await forgets_its_files(office)
    assert await sends_again(office, generation) == methods
    before = office.telegram.journal.last_number
    assert await sends_again(office, generation) == methods
    assert all(not call.files for call in sends_after(office, before)), "the new ids are kept"


async def test_a_result_whose_ids_and_files_are_gone_is_told_as_a_link(office: Office) -> None:
    generation = await made(office, 1)
    await forgets_its_files(office)
    gone = ["https://example.org/gone.png"]  # none of the maker's hosts
    assert await sends_again(office, generation, urls=gone) == ["sendMessage"]
    assert links(office) == gone


async def test_a_file_that_breaks_off_only_after_it_was_paid_for_is_linked_to_without_blaming_telegram(
    office: Office, elsewhere: Courier
) -> None:
    anna = office.telegram.user(CHAT)
    await office.made()
    office.rig.kie.faults.next_file("truncated", count=100)
    for _ in range(FETCH_TRIES):
        assert anna.messages == []
        await elsewhere.deliver(CHAT)
        async with office.rig.database.engine.begin() as connection:
            await connection.execute(text("UPDATE outbox SET next_at = now()"))
    told = anna.last_message.text or ""
    assert "could not fetch its file" in told
    assert "Charged: 1.6 credits." in told
    assert "Telegram does not take" not in told
    assert len(links(office)) == 1


async def test_a_file_that_is_too_large_is_linked_to_as_such(office: Office) -> None:
    anna = office.telegram.user(CHAT)
    office.rig.kie.switches.set(result_mode="oversized")
    await office.made()
    await office.courier.deliver(CHAT)
    assert "Telegram does not take" in (anna.last_message.text or "")


@pytest.mark.parametrize("count", [2, 3])
async def test_silent_clips_that_no_album_takes_come_again_in_two_messages(
    office: Office, messenger: TelegramMessenger, tmp_path: Path, count: int
) -> None:
    generation = await made(office, count, kind="wan/2-6-text-to-video")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(make_media(MediaSpec("mp4", 1)))
    kept = await messenger.send_media(CHAT, Media("animation", clip, "clip.mp4", "video/mp4"), "")
    async with office.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE artifacts SET file_id = :id"), {"id": kept.file_ids[0]})
    assert len(await sends_again(office, generation)) == 2


async def test_what_has_no_room_in_an_album_is_behind_buttons_and_said(office: Office) -> None:
    generation = await made(office, 13)
    anna = office.telegram.user(CHAT)
    assert "10 files at once" in (anna.last_message.text or "")
    assert links(office) == list(generation.result_urls[10:])
    assert await sends_again(office, generation) == ["sendMediaGroup", "sendMessage"]
    assert links(office) == list(generation.result_urls[10:])
