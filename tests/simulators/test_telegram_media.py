"""Files: uploads, ids, downloads, albums, edits, limits (M1 to M6)."""

import asyncio
import hashlib
import json

import pytest

from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import Rules, TelegramSimulator, UrlContent, make_token
from tests.simulators.telegram_kit import MP3, MP4, OGG, Api, png, telegram

PICTURE = png(640, 480)


async def download(api: Api, path: str) -> bytes:
    response = await api.http.get(f"http://telegram/file/bot{api.sim.token}/{path}")
    assert response.status_code == 200
    return response.content


async def test_an_uploaded_picture_can_be_downloaded_byte_for_byte() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sent = await api.ok(
            "sendPhoto", {"photo": ("cat.png", PICTURE, "image/png")}, chat_id=anna.user_id, caption="c"
        )
        sizes = sent["photo"]
        assert [size["width"] for size in sizes] == [160, 320, 640]
        assert sizes[-1]["file_size"] == len(PICTURE)
        file = await api.ok("getFile", file_id=sizes[-1]["file_id"])
        assert await download(api, file["file_path"]) == PICTURE
        assert (anna.last_message.media_kind, anna.last_message.media_bytes) == ("photo", PICTURE)
        assert sim.journal.calls("sendPhoto")[0].files["photo"].content_type == "image/png"


async def test_every_kind_of_file_arrives_as_what_it_is() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        for kind, data in (("video", MP4), ("audio", MP3), ("voice", OGG), ("animation", MP4), ("document", b"any")):
            sent = await api.ok(f"send{kind}", {kind: (f"x.{kind}", data)}, chat_id=anna.user_id)
            assert sent[kind]["file_size"] == len(data)
        demoted = await api.ok("sendVideo", {"video": ("x.mp4", b"not a video")}, chat_id=anna.user_id)
        assert "video" not in demoted
        assert anna.last_message.media_kind == "document"


async def test_a_picture_over_the_limits_is_refused() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        large = png(10, 10, b"\0" * (10 * 1024 * 1024))
        for data, text in (
            (
                large,
                f"file of size {len(large)} bytes is too big for a photo; the maximum size is 10485760 bytes",
            ),
            (png(9000, 2000), "PHOTO_INVALID_DIMENSIONS"),
            (png(2100, 100), "PHOTO_INVALID_DIMENSIONS"),
            (b"no picture", "IMAGE_PROCESS_FAILED"),
        ):
            refused = await api.refused("sendPhoto", {"photo": data}, chat_id=anna.user_id)
            assert refused == (400, f"Bad Request: {text}")
        await api.ok("sendDocument", {"document": large}, chat_id=anna.user_id)
        caption = {"caption": "x" * 1025}
        refused = await api.refused("sendPhoto", {"photo": PICTURE}, chat_id=anna.user_id, **caption)
        assert refused == (400, "Bad Request: message caption is too long")


async def test_uploads_over_the_cap_get_413() -> None:
    async with telegram(setup=lambda rules: setattr(rules, "max_upload_bytes", 1_000_000)) as (sim, _, api):
        anna = sim.user()
        for size in (1_000_001, 4_000_000):
            refused = await api.refused("sendDocument", {"document": b"\0" * size}, chat_id=anna.user_id)
            assert refused == (413, "Request Entity Too Large")
        assert anna.messages == []


async def test_a_file_id_sends_again_without_an_upload() -> None:
    async with telegram() as (sim, _, api):
        anna, boris = sim.user(), sim.user()
        sent = await api.ok("sendVideo", {"video": MP4}, chat_id=anna.user_id)
        again = await api.ok("sendVideo", chat_id=boris.user_id, video=sent["video"]["file_id"])
        assert again["video"] == sent["video"]
        assert boris.last_message.media_bytes == MP4
        assert [bool(call.files) for call in sim.journal.calls("sendVideo")] == [True, False]
        for method, field, text in (
            ("sendPhoto", "photo", "Bad Request: can't use file of type Video as Photo"),
            ("sendVideo", "video", "Bad Request: wrong file identifier/HTTP URL specified"),
        ):
            file_id = sent["video"]["file_id"] if field == "photo" else "nonsense"
            assert await api.refused(method, chat_id=anna.user_id, **{field: file_id}) == (400, text)


async def test_a_file_id_is_of_no_use_to_another_bot() -> None:
    tokens = {make_token(1): "one", make_token(2): "two"}
    async with TelegramSimulator(tokens) as sim:
        one, two = sim.by_token.values()
        file = one.files.add("video", MP4, "x.mp4", "video/mp4")
        with pytest.raises(Exception, match="wrong file identifier"):
            two.files.by_id("video", file.file_id)


async def test_files_over_twenty_mebibytes_cannot_be_downloaded() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        await anna.sends_document(b"\0" * (20 * 1024 * 1024 + 1), "big.bin", "application/octet-stream")
        [update] = await api.ok("getUpdates")
        file_id = update["message"]["document"]["file_id"]
        assert await api.refused("getFile", file_id=file_id) == (400, "Bad Request: file is too big")
        text = "Bad Request: wrong file_id or the file is temporarily unavailable"
        assert await api.refused("getFile", file_id="x") == (400, text)


async def test_what_people_send_can_be_downloaded() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        await anna.sends_photo(PICTURE, "my cat")
        await anna.sends_voice(OGG)
        await anna.sends_album([PICTURE, png(10, 20)], "two")
        updates = await api.ok("getUpdates")
        photo = updates[0]["message"]["photo"][-1]
        path = (await api.ok("getFile", file_id=photo["file_id"]))["file_path"]
        assert await download(api, path) == PICTURE
        assert updates[1]["message"]["voice"]["mime_type"] == "audio/ogg"
        assert updates[2]["message"]["media_group_id"] == updates[3]["message"]["media_group_id"]


async def test_an_album_is_sent_whole_or_not_at_all() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        media = [{"type": "photo", "media": "attach://a", "caption": "first"}, {"type": "video", "media": "attach://b"}]
        files = {"a": PICTURE, "b": MP4}
        sent = await api.ok("sendMediaGroup", files, chat_id=anna.user_id, media=json.dumps(media))
        assert len({message["media_group_id"] for message in sent}) == 1
        assert [message.media_kind for message in anna.messages] == ["photo", "video"]
        broken = json.dumps([media[0], {"type": "photo", "media": "nonsense"}])
        code, text = await api.refused("sendMediaGroup", files, chat_id=anna.user_id, media=broken)
        assert code == 400
        assert text.startswith('Bad Request: failed to send message #2 with the error message "wrong file identifier')
        mixed = json.dumps([media[0], {"type": "document", "media": "attach://b"}])
        refused = await api.refused("sendMediaGroup", files, chat_id=anna.user_id, media=mixed)
        assert refused == (400, "Bad Request: document can't be mixed with other media types")
        for count, text in ((0, "there are no messages to send"), (11, "too many messages to send as an album")):
            given = json.dumps(media[:1] * count)
            refused = await api.refused("sendMediaGroup", files, chat_id=anna.user_id, media=given)
            assert refused == (400, f"Bad Request: {text}")
        assert len(anna.messages) == 2


async def test_a_placeholder_is_swapped_for_the_result_in_place() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sent = await api.ok("sendPhoto", {"photo": PICTURE}, chat_id=anna.user_id, caption="wait")
        where = {"chat_id": anna.user_id, "message_id": sent["message_id"]}
        media = json.dumps({"type": "video", "media": "attach://v", "caption": "done"})
        edited = await api.ok("editMessageMedia", {"v": MP4}, **where, media=media)
        assert "photo" not in edited
        assert (anna.last_message.media_bytes, anna.last_message.caption) == (MP4, "done")
        code, text = await api.refused("editMessageMedia", {"v": MP4}, **where, media=media)
        assert code == 400
        assert "message is not modified" in text
        await api.ok("editMessageCaption", **where, caption="better")
        assert anna.last_message.caption == "better"
        refused = await api.refused("editMessageText", **where, text="x")
        assert refused == (400, "Bad Request: there is no text in the message to edit")


async def test_sending_by_url_fetches_checks_and_may_fail() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sim.urls["https://ok.example/cat.png"] = UrlContent(PICTURE, "image/png")
        sim.urls["https://ok.example/page"] = UrlContent(b"<html>", "text/html")
        sim.urls["https://ok.example/big.png"] = UrlContent(png(9, 9, b"\0" * 6_000_000), "image/png")
        await api.ok("sendPhoto", chat_id=anna.user_id, photo="https://ok.example/cat.png")
        assert anna.last_message.media_bytes == PICTURE
        for url, text in (
            ("https://ok.example/page", "wrong type of the web page content"),
            ("https://ok.example/big.png", "failed to get HTTP URL content"),
            ("https://gone.example/x.png", "failed to get HTTP URL content"),
            ("https://nodots", "wrong HTTP URL specified"),
        ):
            refused = await api.refused("sendPhoto", chat_id=anna.user_id, photo=url)
            assert refused == (400, f"Bad Request: {text}")


async def test_equal_bytes_are_seen_as_a_duplicate_send() -> None:
    async with telegram() as (sim, clock, api):
        anna = sim.user()
        for _ in range(2):
            await api.ok("sendPhoto", {"photo": PICTURE}, chat_id=anna.user_id)
            await clock.advance(30)
        await api.ok("sendPhoto", {"photo": png(64, 64)}, chat_id=anna.user_id)
        assert [len(group) for group in sim.journal.duplicate_sends()] == [2]
        assert sim.journal.duplicate_sends(within_s=10) == []
        assert anna.last_message.media is not None
        assert anna.last_message.media.content.digest == hashlib.sha256(png(64, 64)).hexdigest()


async def test_the_oldest_files_make_room() -> None:
    rules = Rules(max_stored_file_bytes=1000)
    async with telegram(rules) as (sim, _, api):
        old = sim.bot.files.add("document", b"a" * 600, "a", "x/y")
        sim.bot.files.add("document", b"b" * 600, "b", "x/y")
        code, text = await api.refused("getFile", file_id=old.file_id)
        assert (code, text.split(": ")[1]) == (400, "wrong file_id or the file is temporarily unavailable")


async def test_an_upload_cut_halfway_sends_nothing() -> None:
    async with TelegramSimulator() as sim, SimulatorServer(sim.asgi) as server:
        anna = sim.user()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            f"POST /bot{sim.token}/sendPhoto?chat_id={anna.user_id} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        )
        writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disp")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        for _ in range(100):
            if sim.journal.calls("sendPhoto"):
                break
            await asyncio.sleep(0.01)
        [call] = sim.journal.calls("sendPhoto")
        assert (call.status, call.is_cut) == (None, True)
        assert anna.messages == []
