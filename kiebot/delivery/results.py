"""Sends the outcome of a generation: the file itself within Telegram's limits, else a link, always with its price."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from kiebot.clock import Clock
from kiebot.delivery.outbox import Row
from kiebot.delivery.ports import Media, MediaRefused, Messenger, Renderer, Say, Sent
from kiebot.errors import Permanent, Transient
from kiebot.generation.model import Artifact, Generation
from kiebot.generation.ports import RESULT_MAX_BYTES, Fetched, Results, TooLarge
from kiebot.insist import insist
from kiebot.people import Wishes
from kiebot.store import Store

log = structlog.get_logger()

PHOTO_MAX_BYTES = 10 * 1024 * 1024
PHOTO_MAX_SIDES = 10_000
PHOTO_MAX_RATIO = 20
ALBUM_MAX = 10
FETCH_TRIES = 6  # with the courier's pauses a minute: nothing else reaches the chat meanwhile
CAPTION_MAX = 1024
SHOWN = ("photo", "video")  # what Telegram compresses, and what it can hide


class FileGone(Exception):
    """The file host does not give the file any more; its address is all that is left to give."""


class ResultSender:
    """Turns an outcome row into messages. At most two for one generation: the files, and their text when it cannot be
    the caption."""

    def __init__(self, store: Store, messenger: Messenger, renderer: Renderer, results: Results, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._messenger = messenger
        self._renderer = renderer
        self._results = results

    async def send(self, row: Row) -> Sent:
        """Raises what the messenger and the results raise; a result that is gone, too large, or not to be had for a
        minute becomes a link. What no album has room for is linked to."""
        generation, artifacts, wishes, facts = await self._read(row)
        urls = [str(url) for url in _list(row.payload.get("urls"))]
        say = self._renderer.outcome(row.kind, generation, {**facts, "more_urls": urls[ALBUM_MAX:]})
        if row.kind == "failed" or not (urls or artifacts):
            return await self._messenger.send_text(row.chat_id, say.text, say.keyboard)
        is_resent = bool(row.payload.get("resent"))
        if artifacts and not is_resent:  # an earlier try sent the files and was cut off after it
            return await self._finish(row, len(artifacts), say)
        why = "refused"
        for way in self._ways(row, generation, artifacts, urls, wishes, say):
            try:
                if (sent := await way()) is not None:
                    return sent
            except (TooLarge, MediaRefused):
                why = "refused"
            except FileGone:
                why = "out_of_reach"
        linked = self._renderer.outcome("result_link", generation, {**facts, "urls": urls, "why": why})
        return await self._messenger.send_text(row.chat_id, linked.text, linked.keyboard)

    def _ways(
        self,
        row: Row,
        generation: Generation,
        artifacts: Sequence[Artifact],
        urls: Sequence[str],
        wishes: Wishes,
        say: Say,
    ) -> list[Callable[[], Awaitable[Sent | None]]]:
        """The best first. An id is of one kind for ever: who wants files now gets what came as a picture from its
        maker once more, and as it came when that is gone."""
        by_files = partial(self._send_files, row, generation, urls, wishes, say)
        by_ids = partial(self._send_again, row.chat_id, artifacts, wishes, say)
        if not artifacts:
            return [by_files]
        is_other = wishes.wants_files and any(artifact.kind in SHOWN for artifact in artifacts)
        return [by_files, by_ids] if is_other else [by_ids, by_files]

    async def _read(self, row: Row) -> tuple[Generation, list[Artifact], Wishes, dict[str, object]]:
        if row.generation_id is None:
            raise Permanent("an outcome without a generation", code="bug")
        async with self._store.transaction() as tx:
            generation = await tx.generations.get(row.generation_id)
            artifacts = await tx.generations.artifacts(row.generation_id)
            if generation is None:
                raise Permanent("the generation is gone", code="bug")
            balance = await tx.ledger.balance(generation.user_id)
            charged = await tx.ledger.settled(generation.id)
            wishes = await tx.users.wishes(generation.user_id)
        facts: dict[str, object] = {**row.payload, "available": balance.available, "charged": charged}
        return generation, artifacts, wishes, facts

    async def _send_again(self, chat_id: int, artifacts: Sequence[Artifact], wishes: Wishes, say: Say) -> Sent | None:
        """By the ids that Telegram gave them. None: it does not take those any more, and nothing was sent."""
        hidden = replace(wishes, wants_files=False)
        media = [_as_wished(Media(artifact.kind, artifact.file_id), hidden) for artifact in artifacts]
        try:
            sent = await self._post(chat_id, media, say)
        except MediaRefused:  # also: a silent clip is kept as an animation, which no album takes
            if len(media) == 2 and len(say.text) <= CAPTION_MAX:
                return await self._send_pair(chat_id, media[0], media[1], say)
            return None
        return await self._with_text(chat_id, media, say, sent)

    async def _send_pair(self, chat_id: int, first: Media, second: Media, say: Say) -> Sent | None:
        try:
            await self._messenger.send_media(chat_id, first, "")
        except MediaRefused:
            return None
        return await self._messenger.send_media(chat_id, second, say.text, say.keyboard)

    async def _finish(self, row: Row, files: int, say: Say) -> Sent:
        if files == 1 and len(say.text) <= CAPTION_MAX:
            return Sent(0)
        return await self._messenger.send_text(row.chat_id, say.text, say.keyboard)

    async def _send_files(
        self, row: Row, generation: Generation, urls: Sequence[str], wishes: Wishes, say: Say
    ) -> Sent:
        async with AsyncExitStack() as stack:
            files = [await self._fetched(stack, url, row.attempts) for url in urls[:ALBUM_MAX]]
            found = [_media(file, _file_name(generation, url, file)) for file, url in zip(files, urls, strict=False)]
            media = [_as_wished(item, wishes) for item in found]
            sent, media = await self._post_best(row.chat_id, media, say)
            await self._keep(generation, urls, files, media, sent)
        return await self._with_text(row.chat_id, media, say, sent)

    async def _with_text(self, chat_id: int, media: Sequence[Media], say: Say, sent: Sent) -> Sent:
        """Albums carry no buttons, long texts are no captions: those follow the files."""
        if _fits_one_message(media, say):
            return sent
        text = await self._messenger.send_text(chat_id, say.text, say.keyboard)
        return Sent(text.message_id, sent.file_ids)

    async def _fetched(self, stack: AsyncExitStack, url: str, tries: int) -> Fetched:
        try:
            return await stack.enter_async_context(self._results.fetch(url, max_bytes=RESULT_MAX_BYTES))
        except Permanent as error:
            raise FileGone(str(error)) from error
        except Transient as error:
            if tries < FETCH_TRIES:
                raise
            raise FileGone(str(error)) from error

    async def _post_best(self, chat_id: int, media: list[Media], say: Say) -> tuple[Sent, list[Media]]:
        """As the kinds they are; when Telegram does not take them so, as documents."""
        try:
            return await self._post(chat_id, media, say), media
        except MediaRefused:
            if all(item.kind == "document" for item in media):
                raise
            plain = [_as_document(item) for item in media]
            return await self._post(chat_id, plain, say), plain

    async def _post(self, chat_id: int, media: Sequence[Media], say: Say) -> Sent:
        if _fits_one_message(media, say):
            return await self._messenger.send_media(chat_id, media[0], say.text, say.keyboard)
        return await self._messenger.send_album(chat_id, media)

    async def _keep(
        self,
        generation: Generation,
        urls: Sequence[str],
        files: Sequence[Fetched],
        media: Sequence[Media],
        sent: Sent,
    ) -> None:
        """File ids send a result again without an upload, and tell a later try that the files stand in the chat."""
        rows = [
            Artifact(generation.id, position, item.kind, file.mime, file.size_bytes, file_id, url)
            for position, (item, file, file_id, url) in enumerate(zip(media, files, sent.file_ids, urls, strict=False))
        ]

        async def write() -> None:
            async with self._store.transaction() as tx:
                for artifact in rows:
                    await tx.generations.add_artifact(artifact)

        await insist(write, self._clock, what="artifacts")


def _fits_one_message(media: Sequence[Media], say: Say) -> bool:
    return len(media) == 1 and len(say.text) <= CAPTION_MAX


def _media(file: Fetched, file_name: str) -> Media:
    return Media(_kind(file), file.path, file_name, file.mime, file.width, file.height, file.seconds)


def _kind(file: Fetched) -> str:
    """Telegram's way to show it: photo, video, audio, or a document for what breaks the rules of those."""
    if file.kind == "image":
        return "photo" if _is_photo(file) else "document"
    return file.kind if file.kind in ("video", "audio") else "document"


def _is_photo(file: Fetched) -> bool:
    if file.mime not in ("image/png", "image/jpeg", "image/webp") or file.size_bytes > PHOTO_MAX_BYTES:
        return False
    if not file.width or not file.height:
        return True  # Telegram will say; a document is the second try
    sides_fit = file.width + file.height <= PHOTO_MAX_SIDES
    return sides_fit and max(file.width, file.height) <= PHOTO_MAX_RATIO * min(file.width, file.height)


def _as_wished(media: Media, wishes: Wishes) -> Media:
    if media.kind not in SHOWN:
        return media
    return _as_document(media) if wishes.wants_files else replace(media, has_spoiler=wishes.hides_media)


def _as_document(media: Media) -> Media:
    return Media("document", media.source, media.file_name, media.mime)


def _file_name(generation: Generation, url: str, file: Fetched) -> str:
    suffix = Path(urlsplit(url).path).suffix.lower()
    wanted = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "video/mp4": ".mp4"}
    return f"{generation.model_id.replace('/', '-')}-{generation.number}{wanted.get(file.mime, suffix)}"


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
