"""The Messenger port against the simulator: what people see."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.messenger import TelegramMessenger
from kiebot.delivery.ports import Bill, Button, ChatGone, ChatMigrated, Media, MediaRefused, MessageGone
from kiebot.errors import Permanent, Transient
from tests.botapi.conftest import Telegram, write_png
from tests.simulators.telegram_kit import MP3, MP4

KEYBOARD = (
    (Button("Again", data="again:1"), Button("Help", url="https://example.org/")),
    (Button("Stop", data="stop"),),
)


async def test_a_text_arrives_as_it_is_with_its_buttons_and_no_preview(
    telegram: Telegram, messenger: TelegramMessenger
) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_text(anna.chat_id, "<b>*_~ https://example.org", KEYBOARD)
    assert anna.last_message.text == "<b>*_~ https://example.org"
    assert anna.last_message.message_id == sent.message_id
    assert anna.buttons == ["Again", "Help", "Stop"]
    (call,) = telegram.sim.journal.calls("sendMessage")
    assert call.arguments["link_preview_options"] == '{"is_disabled": true}'
    assert "parse_mode" not in call.arguments
    assert call.process == "replica-a"


async def test_an_edit_changes_text_and_buttons(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_text(anna.chat_id, "queued", KEYBOARD)
    await messenger.edit_text(anna.chat_id, sent.message_id, "running", ((Button("Stop", data="stop"),),))
    assert (anna.last_message.text, anna.buttons) == ("running", ["Stop"])
    await messenger.edit_text(anna.chat_id, sent.message_id, "done")
    assert (anna.last_message.text, anna.buttons) == ("done", [])


async def test_an_edit_that_changes_nothing_is_a_success(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_text(anna.chat_id, "same", KEYBOARD)
    await messenger.edit_text(anna.chat_id, sent.message_id, "same", KEYBOARD)
    assert telegram.sim.journal.calls("editMessageText")[0].status == 400


async def test_an_edit_of_what_cannot_be_edited_says_so(
    telegram: Telegram, messenger: TelegramMessenger, picture: Path
) -> None:
    anna = telegram.sim.user()
    photo = await messenger.send_media(anna.chat_id, Media("photo", picture), "")
    for message_id in (photo.message_id, 99_999):
        with pytest.raises(MessageGone):
            await messenger.edit_text(anna.chat_id, message_id, "new")


async def test_deleting_twice_is_a_success(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_text(anna.chat_id, "card")
    await messenger.delete(anna.chat_id, sent.message_id)
    await messenger.delete(anna.chat_id, sent.message_id)
    assert anna.messages == []


@pytest.mark.parametrize(
    ("kind", "content", "mime"),
    [("video", MP4, "video/mp4"), ("audio", MP3, "audio/mpeg"), ("document", b"%PDF-1.7 etc", "application/pdf")],
)
async def test_a_file_is_uploaded_once_and_sent_again_by_its_id(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path, kind: str, content: bytes, mime: str
) -> None:
    anna = telegram.sim.user()
    path = tmp_path / "result"
    path.write_bytes(content)
    first = await messenger.send_media(
        anna.chat_id, Media(kind, path, "cat-1.bin", mime, 64, 48, 3.4), "40 credits", KEYBOARD
    )
    again = await messenger.send_media(anna.chat_id, Media(kind, first.file_ids[0]), "")
    assert again.file_ids == first.file_ids
    upload, resend = telegram.sim.journal.calls(f"send{kind.capitalize()}")
    (note,) = upload.files.values()
    assert (note.name, note.content_type, note.size_bytes) == ("cat-1.bin", mime, len(content))
    assert (upload.arguments["caption"], resend.files) == ("40 credits", {})
    assert anna.messages[0].media_kind == kind


async def test_a_video_carries_its_size_and_length_and_may_be_watched_while_it_loads(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path
) -> None:
    path = tmp_path / "v"
    path.write_bytes(MP4)
    await messenger.send_media(telegram.sim.user().chat_id, Media("video", path, "v.mp4", "video/mp4", 64, 48, 3.6), "")
    (call,) = telegram.sim.journal.calls("sendVideo")
    facts = {name: call.arguments[name] for name in ("width", "height", "duration", "supports_streaming")}
    assert facts == {"width": "64", "height": "48", "duration": "4", "supports_streaming": "true"}


async def test_a_photo_is_kept_by_the_id_of_its_largest_size(
    telegram: Telegram, messenger: TelegramMessenger, picture: Path
) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_media(anna.chat_id, Media("photo", picture, "cat.png", "image/png"), "a cat", KEYBOARD)
    assert sent.file_ids == (anna.last_message.body["photo"][-1]["file_id"],)
    assert (anna.last_message.caption, anna.buttons) == ("a cat", ["Again", "Help", "Stop"])


async def test_what_telegram_keeps_as_another_kind_is_sent_again_as_that(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path
) -> None:
    anna = telegram.sim.user()
    path = tmp_path / "not-a-video"
    path.write_bytes(b"%PDF-1.7 etc")
    first = await messenger.send_media(anna.chat_id, Media("video", path, "v.mp4", "video/mp4"), "")
    assert anna.last_message.media_kind == "document"
    await messenger.send_media(anna.chat_id, Media("video", first.file_ids[0]), "once more")
    assert (anna.last_message.media_kind, anna.last_message.caption) == ("document", "once more")


async def test_an_album_arrives_as_one_with_an_id_for_every_file(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path
) -> None:
    anna = telegram.sim.user()
    media = [Media("photo", write_png(tmp_path / str(n), tail=bytes([n])), f"{n}.png", "image/png") for n in range(3)]
    sent = await messenger.send_album(anna.chat_id, media)
    assert [message.body["photo"][-1]["file_id"] for message in anna.messages] == list(sent.file_ids)
    assert sent.message_id == anna.messages[0].message_id
    assert len({message.body["media_group_id"] for message in anna.messages}) == 1
    await messenger.send_album(anna.chat_id, [Media("photo", file_id) for file_id in sent.file_ids])
    assert len(anna.messages) == 6
    assert telegram.sim.journal.calls("sendMediaGroup")[1].files == {}


async def test_an_album_of_one_is_a_single_message(
    telegram: Telegram, messenger: TelegramMessenger, picture: Path
) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_album(anna.chat_id, [Media("photo", picture, "p.png", "image/png")])
    assert (len(anna.messages), len(sent.file_ids)) == (1, 1)
    assert telegram.sim.journal.calls("sendMediaGroup") == []


async def test_an_album_that_mixes_what_cannot_be_mixed_is_refused_whole(
    telegram: Telegram, messenger: TelegramMessenger, picture: Path
) -> None:
    anna = telegram.sim.user()
    with pytest.raises(MediaRefused):
        await messenger.send_album(anna.chat_id, [Media("photo", picture), Media("document", picture)])
    assert anna.messages == []


async def test_a_picture_too_wide_for_a_photo_goes_as_a_document(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path
) -> None:
    anna = telegram.sim.user()
    wide = write_png(tmp_path / "wide", 9000, 300)
    with pytest.raises(MediaRefused):
        await messenger.send_media(anna.chat_id, Media("photo", wide, "w.png", "image/png"), "")
    await messenger.send_media(anna.chat_id, Media("document", wide, "w.png", "image/png"), "")
    assert anna.last_message.media_kind == "document"


async def test_an_upload_larger_than_the_front_end_takes_is_refused(
    telegram: Telegram, messenger: TelegramMessenger, tmp_path: Path
) -> None:
    telegram.sim.rules.max_upload_bytes = 1000
    path = tmp_path / "big"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(MediaRefused) as caught:
        await messenger.send_media(telegram.sim.user().chat_id, Media("document", path), "")
    assert caught.value.code == "too_large"


async def test_a_file_that_has_vanished_is_no_refusal(messenger: TelegramMessenger, tmp_path: Path) -> None:
    with pytest.raises(Transient):
        await messenger.send_media(1, Media("photo", tmp_path / "nowhere"), "")


@pytest.mark.parametrize("album", [False, True])
async def test_a_kind_that_nobody_can_send_is_a_bug(messenger: TelegramMessenger, album: bool) -> None:
    strange = Media("hologram", "file-id")
    with pytest.raises(Permanent) as caught:
        await (messenger.send_album(1, [strange, strange]) if album else messenger.send_media(1, strange, ""))
    assert caught.value.code == "bug"


async def test_people_who_left_cannot_be_written_to(telegram: Telegram, messenger: TelegramMessenger) -> None:
    blocker, stranger, ghost = telegram.sim.user(1), telegram.sim.user(2, started=False), telegram.sim.user(3)
    blocker.blocks_bot()
    ghost.deletes_account()
    codes = []
    for chat_id in (blocker.chat_id, stranger.chat_id, ghost.chat_id, 404):
        with pytest.raises(ChatGone) as caught:
            await messenger.send_text(chat_id, "hi")
        codes.append(caught.value.code)
    assert codes == ["blocked", "never_started", "deactivated", "chat_gone"]


async def test_a_group_that_moved_names_its_new_id(telegram: Telegram, messenger: TelegramMessenger) -> None:
    group = telegram.sim.group(-55, kind="group")
    group.becomes_supergroup(-100_123)
    with pytest.raises(ChatMigrated) as caught:
        await messenger.send_text(-55, "hi")
    assert caught.value.new_chat_id == -100_123
    await messenger.send_text(-100_123, "hi")


async def test_texts_beyond_telegrams_limits_are_refused(
    telegram: Telegram, messenger: TelegramMessenger, picture: Path
) -> None:
    chat_id = telegram.sim.user().chat_id
    await messenger.send_text(chat_id, "x" * 4096)
    for send in (
        messenger.send_text(chat_id, "x" * 4097),
        messenger.send_media(chat_id, Media("photo", picture), "x" * 1025),
    ):
        with pytest.raises(Permanent) as caught:
            await send
        assert caught.value.code == "too_long"
    with pytest.raises(Permanent) as caught:
        await messenger.send_text(chat_id, "hi", ((Button("x", data="x" * 65),),))
    assert caught.value.code == "bad_keyboard"


async def test_a_press_is_answered(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    await messenger.send_text(anna.chat_id, "choose", KEYBOARD)
    press = await anna.presses("Again")
    assert press is not None
    await messenger.answer_press(press.query_id, "x" * 300)
    assert anna.callback_answers[0].text == "x" * 200


async def test_answering_a_press_never_raises(telegram: Telegram, messenger: TelegramMessenger) -> None:
    await messenger.answer_press("unknown")
    for fault in (telegram.sim.faults.cuts_before, telegram.sim.faults.cuts_after):
        fault("answerCallbackQuery")
        await messenger.answer_press("1")
    telegram.sim.faults.answers("answerCallbackQuery", 429, retry_after=30)
    await messenger.answer_press("1")
    telegram.sim.faults.answers("answerCallbackQuery", 502, body=b"<html>")
    await messenger.answer_press("1")


async def test_with_nobody_at_the_address_nothing_was_sent(unused_tcp_port: int) -> None:
    bot = make_bot("12345:AAAAAAAAAAAAAAAAAAAAAAAAA", api_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Transient):
        await TelegramMessenger(bot).send_text(1, "hi")
    await close_bot(bot)
    await close_bot(bot)


async def test_a_lone_slow_answer_is_waited_for(telegram: Telegram, messenger: TelegramMessenger) -> None:
    anna = telegram.sim.user()
    telegram.sim.faults.delays("sendMessage", 0.3)
    await messenger.send_text(anna.chat_id, "late")
    assert anna.last_message.text == "late"


async def test_a_bill_asks_for_stars_and_shows_its_payload_to_nobody(
    telegram: Telegram, messenger: TelegramMessenger
) -> None:
    anna = telegram.sim.user()
    sent = await messenger.send_bill(anna.chat_id, Bill("100 credits", "For pictures.", "signed", 200, "topup"))
    shown = anna.last_message
    assert shown.message_id == sent.message_id
    assert shown.invoice is not None
    assert (shown.invoice["currency"], shown.invoice["total_amount"]) == ("XTR", 200)
    assert "payload" not in shown.invoice
    assert shown.invoice_payload == "signed"
