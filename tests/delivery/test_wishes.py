"""Results arrive as their owner wants them: behind a spoiler, or as files that Telegram does not compress."""

from __future__ import annotations

import json

import pytest

from kiebot.people import Wishes
from kiebot.simulators.telegram.journal import Call
from tests.delivery.conftest import CHAT, Office
from tests.delivery.test_results import made, sends_after, sends_again
from tests.generation.conftest import ANNA


async def wishes(office: Office, **wanted: bool) -> None:
    async with office.rig.database.transaction() as tx:
        await tx.users.seen(ANNA, "Anna", "en")
        await tx.users.wish(ANNA, Wishes(**wanted))


def first_send(office: Office) -> Call:
    return sends_after(office, 0)[0]


@pytest.mark.parametrize(("kind", "method"), [("z-image", "sendPhoto"), ("wan/2-6-text-to-video", "sendVideo")])
@pytest.mark.parametrize("is_hidden", [False, True])
async def test_a_picture_or_video_is_covered_when_its_owner_wants_it_so(
    office: Office, kind: str, method: str, is_hidden: bool
) -> None:
    await wishes(office, hides_media=is_hidden)
    await made(office, 1, kind=kind)
    call = first_send(office)
    assert call.method == method
    assert call.arguments.get("has_spoiler") == ("true" if is_hidden else None)


async def test_every_picture_of_an_album_is_covered(office: Office) -> None:
    await wishes(office, hides_media=True)
    await made(office, 3)
    items = json.loads(str(first_send(office).arguments["media"]))
    assert [item["has_spoiler"] for item in items] == [True] * 3


@pytest.mark.parametrize(("count", "methods"), [(1, ["sendDocument"]), (2, ["sendMediaGroup", "sendMessage"])])
async def test_as_files_results_keep_every_byte(office: Office, count: int, methods: list[str]) -> None:
    await wishes(office, wants_files=True, hides_media=True)
    generation = await made(office, count)
    assert [call.method for call in sends_after(office, 0)] == methods
    kinds = [message.media_kind for message in office.telegram.user(CHAT).messages]
    assert kinds[:count] == ["document"] * count
    assert await sends_again(office, generation) == methods, "the ids of files are used again"


async def test_a_result_that_came_as_a_picture_comes_again_as_a_file_once_that_is_wanted(office: Office) -> None:
    generation = await made(office, 1)
    await wishes(office, wants_files=True)
    assert await sends_again(office, generation) == ["sendDocument"]


async def test_a_picture_whose_file_is_gone_comes_again_as_it_came(office: Office) -> None:
    generation = await made(office, 1)
    await wishes(office, wants_files=True)
    gone = ["https://example.org/gone.png"]  # none of the maker's hosts
    assert await sends_again(office, generation, urls=gone) == ["sendPhoto"]


async def test_sound_stays_sound(office: Office) -> None:
    await wishes(office, wants_files=True, hides_media=True)
    await made(office, 1, kind="ai-music-api/generate")
    call = first_send(office)
    assert (call.method, call.arguments.get("has_spoiler")) == ("sendAudio", None)
