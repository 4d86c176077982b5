"""Sending and editing texts: limits, chats, keyboards, duplicates (C1 to C4, X2 to X4)."""

import json

import pytest

from tests.simulators.telegram_kit import Api, telegram

START = {"inline_keyboard": [[{"text": "Go", "callback_data": "go"}]]}


@pytest.mark.parametrize(
    ("arguments", "description"),
    [
        ({"text": "x" * 4097}, "message is too long"),
        ({"text": ""}, "message text is empty"),
        ({"text": " \n "}, "text must be non-empty"),
        (
            {"text": "<b>x", "parse_mode": "HTML"},
            "can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
        (
            {"text": "é<x>", "parse_mode": "HTML"},
            'can\'t parse entities: Unsupported start tag "x" at byte offset 2',
        ),
        (
            {"text": "a.b", "parse_mode": "MarkdownV2"},
            "can't parse entities: Character '.' is reserved and must be escaped with the preceding '\\'",
        ),
        (
            {"text": "*a", "parse_mode": "MarkdownV2"},
            "can't parse entities: Can't find end of Bold entity at byte offset 0",
        ),
        ({"text": "x", "reply_markup": "{"}, "can't parse reply keyboard markup JSON object"),
        (
            {"text": "x", "reply_markup": {"inline_keyboard": [[{"text": "a", "callback_data": "ж" * 33}]]}},
            "BUTTON_DATA_INVALID",
        ),
        (
            {"text": "x", "reply_markup": {"inline_keyboard": [[{"text": "a", "callback_data": "a"}]] * 101}},
            "reply markup is too long",
        ),
        ({"text": "x", "reply_parameters": {"message_id": 99}}, "message to be replied not found"),
    ],
)
async def test_bad_messages_are_refused_in_telegrams_words(arguments: dict[str, object], description: str) -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        response = await api.http.post("sendMessage", json={"chat_id": anna.user_id, **arguments})
        assert (response.status_code, response.json()["description"]) == (400, f"Bad Request: {description}")
        assert anna.messages == []


async def test_entities_are_counted_in_utf16_and_length_after_parsing() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        text = "😀 <b>bold &amp; <i>both</i></b> <a href='https://x.io'>link</a>"
        result = await api.ok("sendMessage", chat_id=anna.user_id, text=text, parse_mode="HTML")
        assert result["text"] == "😀 bold & both link"
        assert result["entities"] == [
            {"type": "bold", "offset": 3, "length": 11},
            {"type": "italic", "offset": 10, "length": 4},
            {"type": "text_link", "url": "https://x.io", "offset": 15, "length": 4},
        ]
        long = "<b>" + "x" * 4096 + "</b>"
        await api.ok("sendMessage", chat_id=anna.user_id, text=long, parse_mode="HTML")
        text = r"*bold* _it_ `co_de` [a](http://b.c) 1\.5"
        result = await api.ok("sendMessage", chat_id=anna.user_id, text=text, parse_mode="MarkdownV2")
        assert result["text"] == "bold it co_de a 1.5"
        assert [entity["type"] for entity in result["entities"]] == ["bold", "italic", "code", "text_link"]


async def test_people_who_cannot_be_written_to() -> None:
    async with telegram() as (sim, _, api):
        blocked, gone, stranger = sim.user(1), sim.user(2), sim.user(3, started=False)
        action = blocked.blocks_bot()
        gone.deletes_account()
        for chat_id, code, text in (
            ("1", 403, "Forbidden: bot was blocked by the user"),
            ("2", 403, "Forbidden: user is deactivated"),
            ("3", 403, "Forbidden: bot can't initiate conversation with a user"),
            ("4", 400, "Bad Request: chat not found"),
            ("", 400, "Bad Request: chat_id is empty"),
        ):
            assert await api.refused("sendMessage", chat_id=chat_id, text="x") == (code, text)
        [update] = await api.ok("getUpdates")
        assert update["update_id"] == action.update_ids[0]
        assert update["my_chat_member"]["new_chat_member"]["status"] == "kicked"
        await stranger.sends("/start")
        await api.ok("sendMessage", chat_id=3, text="now you may")


async def test_groups_kick_and_move() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        group = sim.group(-50, "Friends", [anna], kind="group")
        moved = group.becomes_supergroup(-1001)
        response = await api.call("sendMessage", chat_id=-50, text="x")
        assert response.json()["description"] == "Bad Request: group chat was upgraded to a supergroup chat"
        assert response.json()["parameters"] == {"migrate_to_chat_id": -1001}
        await api.ok("sendMessage", chat_id=-1001, text="x")
        moved.removes_bot(anna)
        refused = await api.refused("sendMessage", chat_id=-1001, text="x")
        assert refused == (403, "Forbidden: bot was kicked from the supergroup chat")


async def test_an_edit_must_change_something() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sent = await api.ok("sendMessage", chat_id=anna.user_id, text="a", reply_markup=json.dumps(START))
        where = {"chat_id": anna.user_id, "message_id": sent["message_id"]}
        code, text = await api.refused("editMessageText", **where, text="a", reply_markup=json.dumps(START))
        assert code == 400
        assert text.startswith("Bad Request: message is not modified: specified new message content and reply markup")
        await api.ok("editMessageText", **where, text="<b>a</b>", parse_mode="HTML", reply_markup=json.dumps(START))
        edited = await api.ok("editMessageText", **where, text="b")
        assert "reply_markup" not in edited
        assert edited["edit_date"] >= edited["date"]
        await api.ok("editMessageReplyMarkup", **where, reply_markup=json.dumps(START))
        assert anna.last_message.buttons == ["Go"]


async def test_edits_of_what_is_not_there_are_refused() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        action = await anna.sends("mine")
        text = await api.ok("sendMessage", chat_id=anna.user_id, text="a")
        assert action.update_ids
        where = {"chat_id": anna.user_id, "message_id": text["message_id"]}
        assert await api.refused("editMessageText", chat_id=anna.user_id, message_id=99, text="x") == (
            400,
            "Bad Request: message to edit not found",
        )
        assert await api.refused("editMessageText", chat_id=anna.user_id, message_id=1, text="x") == (
            400,
            "Bad Request: message can't be edited",
        )
        assert await api.refused("editMessageCaption", **where, caption="x") == (
            400,
            "Bad Request: there is no caption in the message to edit",
        )
        await api.ok("deleteMessage", **where)
        assert await api.refused("deleteMessage", **where) == (400, "Bad Request: message to delete not found")
        assert anna.messages == []


async def test_old_messages_cannot_be_deleted() -> None:
    async with telegram() as (sim, clock, api):
        sent = await api.ok("sendMessage", chat_id=sim.user().user_id, text="a")
        await clock.advance(48 * 3600)
        chat_id = sent["chat"]["id"]
        refused = await api.refused("deleteMessage", chat_id=chat_id, message_id=sent["message_id"])
        assert refused == (400, "Bad Request: message can't be deleted")


async def test_message_ids_grow_in_one_sequence_except_in_supergroups() -> None:
    async with telegram() as (sim, _, api):
        anna, boris = sim.user(), sim.user()
        sim.group(-50, kind="group")
        sim.group(-1001)
        chats = [anna.user_id, boris.user_id, -50, -1001, anna.user_id, -1001]
        sent = [(await api.ok("sendMessage", chat_id=chat, text="x"))["message_id"] for chat in chats]
        assert sent == [1, 2, 3, 1, 4, 2]


async def test_reply_keyboards_are_seen_but_not_echoed() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        keyboard = json.dumps({"keyboard": [[{"text": "Menu"}], ["Help"]]})
        sent = await api.ok("sendMessage", chat_id=anna.user_id, text="x", reply_markup=keyboard)
        assert "reply_markup" not in sent
        assert await anna.presses("help") is None
        [update] = await api.ok("getUpdates")
        assert update["message"]["text"] == "Help"


async def test_a_cut_before_has_no_effect_and_a_cut_after_has() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        sim.faults.cuts_before("sendMessage")
        sim.faults.cuts_after("sendMessage")
        for seen in (0, 1):
            with pytest.raises(ConnectionResetError):
                await api.call("sendMessage", chat_id=anna.user_id, text="x")
            assert len(anna.messages) == seen
        await api.ok("sendMessage", chat_id=anna.user_id, text="x")
        assert [call.is_cut for call in sim.journal.calls("sendMessage")] == [True, True, False]
        [doubled] = sim.journal.duplicate_sends()
        assert [call.number for call in doubled] == [2, 3]
        assert sim.journal.duplicate_sends(within_s=10) == [doubled]


async def test_a_late_answer_still_sends_although_its_client_gave_up() -> None:
    async with telegram() as (sim, clock, api):
        anna = sim.user()
        sim.faults.delays("sendMessage", 7)
        impatient = await api.starts("sendMessage", chat_id=anna.user_id, text="x")
        await clock.advance(5)
        impatient.cancel()
        await clock.advance(1)
        assert anna.messages == []
        await clock.advance(1)
        assert anna.last_message.text == "x"
        [call] = sim.journal.disconnected_early()
        assert (call.status, call.duration_s) == (200, 7.0)


async def test_chat_actions_drafts_reactions_copies_and_profile() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        assert await api.refused("sendChatAction", chat_id=anna.user_id, action="dance") == (
            400,
            "Bad Request: wrong parameter action in request",
        )
        await api.ok("sendChatAction", chat_id=anna.user_id, action="typing")
        await api.ok("sendMessageDraft", chat_id=anna.user_id, draft_id=1, text="thin")
        assert list(anna.chat.drafts) == ["thin"]
        assert anna.messages == []
        sent = await api.ok("sendMessage", chat_id=anna.user_id, text="x")
        where = {"chat_id": anna.user_id, "message_id": sent["message_id"]}
        await api.ok("setMessageReaction", **where, reaction='[{"type":"emoji","emoji":"👍"}]')
        copy = await api.ok("copyMessage", chat_id=anna.user_id, from_chat_id=anna.user_id, message_id=1)
        assert copy == {"message_id": 2}
        forwarded = await api.ok("forwardMessage", chat_id=anna.user_id, from_chat_id=anna.user_id, message_id=1)
        assert forwarded["forward_origin"]["type"] == "user"
        commands = [{"command": "start", "description": "Begin"}]
        await api.ok("setMyCommands", commands=json.dumps(commands))
        assert await api.ok("getMyCommands") == commands
        await api.ok("setMyShortDescription", short_description="Pictures")
        assert await api.ok("getMyShortDescription") == {"short_description": "Pictures"}
        await api.ok("setChatMenuButton", menu_button='{"type":"commands"}')
        assert (await api.ok("getChat", chat_id=anna.user_id))["type"] == "private"


async def test_two_clients_share_one_bot_state() -> None:
    async with telegram() as (sim, clock, a):
        anna = sim.user()
        b = Api(sim, clock, "replica-b")
        sent = await a.ok("sendMessage", chat_id=anna.user_id, text="a")
        await b.ok("editMessageText", chat_id=anna.user_id, message_id=sent["message_id"], text="b")
        assert anna.last_message.text == "b"
