"""What is billed by its length is measured on its way to the provider: the sender's word sets no price."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kiebot.bot.reasons import reason
from kiebot.generation.model import Generation, State
from kiebot.generation.ports import UserFile
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.texts.translator import LANGUAGES, translator
from tests.generation.conftest import Rig
from tests.unit.test_matroska import TRACKS, block, cluster, film, info


class Clips:
    """A user's clip, whatever it was said to be, in pieces as the network brings them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @asynccontextmanager
    async def open(self, file: UserFile) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(self._content), 700):
                yield self._content[start : start + 700]

        yield chunks()


async def upscale(rig: Rig, content: bytes, *, said_s: float) -> tuple[Generation, Rig]:
    made = replace(rig, tools=replace(rig.tools, files=Clips(content)))
    await rig.grant(10_000)
    clip = {"file_id": "clip", "mime": "video/mp4", "seconds": said_s, "width": 640, "height": 480}
    generation = await made.order("topaz/video-upscale", video_url=clip)
    return await made.settles(generation.id), made


@pytest.mark.parametrize("real_s", [3.0, 5.0, 5.9])
async def test_a_clip_as_long_as_it_was_said_to_be_is_made_of(rig: Rig, real_s: float) -> None:
    ended, made = await upscale(rig, make_media(MediaSpec("mp4", 1, real_s)), said_s=5)
    assert (ended.state, ended.failure) == (State.SUCCEEDED, None)
    assert len(rig.kie.tasks) == 1
    await made.books_are_right()


async def test_a_clip_longer_than_it_was_sold_as_is_refused_before_the_submit_with_the_money_back(rig: Rig) -> None:
    ended, made = await upscale(rig, make_media(MediaSpec("mp4", 1, 60.0)), said_s=5)
    assert (ended.state, ended.failure) == (State.FAILED, "longer")
    assert rig.kie.tasks == {}
    assert await made.balance() == (10_000_000, 0)
    assert await made.told(ended.id) == ["failed:longer"]
    await made.books_are_right()


async def test_a_clip_whose_headline_is_shorter_than_its_media_is_refused(rig: Rig) -> None:
    clip = make_media(MediaSpec("mp4", 1, 60.0))
    at = clip.index(b"mvhd") + 4 + 16
    forged = clip[:at] + (5000).to_bytes(4, "big") + clip[at + 4 :]
    ended, _ = await upscale(rig, forged, said_s=5)
    assert (ended.state, ended.failure) == (State.FAILED, "longer")
    assert rig.kie.tasks == {}


@pytest.mark.parametrize(
    ("head_s", "blocks_s", "failure"), [(5.0, 4.9, None), (5.0, 60.0, "longer"), (None, 4.9, "unmeasured")]
)
async def test_a_webm_is_measured_too(rig: Rig, head_s: float | None, blocks_s: float, failure: str | None) -> None:
    head = info(head_s * 1000 if head_s else None)
    ended, made = await upscale(rig, film(head, TRACKS, cluster(int(blocks_s * 1000), block(0))), said_s=5)
    assert ended.failure == failure
    assert len(rig.kie.tasks) == (failure is None)
    await made.books_are_right()


@pytest.mark.parametrize("content", [make_media(MediaSpec("mp3", 1, 60.0)), b"\x1aE\xdf\xa3 a film of another format"])
async def test_a_file_that_cannot_be_measured_as_what_it_was_sold_as_is_refused(rig: Rig, content: bytes) -> None:
    ended, _ = await upscale(rig, content, said_s=5)
    assert (ended.state, ended.failure) == (State.FAILED, "unmeasured")
    assert rig.kie.tasks == {}


async def test_a_length_that_is_not_billed_is_nobodys_business(rig: Rig) -> None:
    await rig.grant(10_000)
    picture = {"file_id": "p", "mime": "image/png", "width": 64, "height": 64}
    generation = await rig.order("qwen/image-to-image", image_url=picture)
    assert (await rig.settles(generation.id)).state is State.SUCCEEDED


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("word", ["longer", "unmeasured"])
def test_both_refusals_have_words_of_their_own(language: str, word: str) -> None:
    to = translator(language)
    assert reason(to, word) != reason(to, "unknown")
