"""From an update's JSON to its lane."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kiebot.botapi.updates import UpdateReader, lane_of

ANNA = {"id": 7, "first_name": "Anna"}
GROUP = {"id": -100200, "type": "supergroup"}


def reader() -> UpdateReader:
    return UpdateReader(lambda data: data == "stop")


@pytest.mark.parametrize(
    ("update", "lane"),
    [
        ({"message": {"message_id": 1, "from": ANNA, "chat": GROUP}}, "c-100200"),
        ({"callback_query": {"id": "1", "from": ANNA, "message": {"chat": {"id": 7}}}}, "c7"),
        ({"callback_query": {"id": "1", "from": ANNA, "inline_message_id": "x"}}, "u7"),
        ({"pre_checkout_query": {"id": "1", "from": ANNA}}, "u7"),
        ({"my_chat_member": {"chat": GROUP, "from": ANNA}}, "c-100200"),
        ({"message_reaction": {"chat": {"id": 9}, "user": ANNA}}, "c9"),
        ({"poll_answer": {"poll_id": "1", "user": ANNA}}, "u7"),
        ({"poll": {"id": "1", "question": "?"}}, "b"),
        ({"something_new": {"chat": {"id": 5}, "extra": {"deep": 1}}}, "c5"),
        ({"something_new": 17}, "b"),
        ({"message": {"chat": "not an object", "from": {"id": True}}}, "b"),
        ({"message": None}, "b"),
        ({}, "b"),
    ],
)
def test_the_lane_is_the_chat_else_the_user_else_the_bot(update: dict[str, Any], lane: str) -> None:
    assert lane_of({"update_id": 1, **update}) == lane


def test_the_json_of_an_update_is_kept_byte_for_byte() -> None:
    payload = b'{ "update_id":5,"message" : {"chat":{"id":7},"n":1.50,"new":[null, "\\u00e4"]} }'
    update = reader().read(payload)
    assert (update.update_id, update.lane, update.payload) == (5, "c7", payload)


@pytest.mark.parametrize(("data", "urgent"), [("stop", True), ("again", False), (None, False), (3, False)])
def test_a_press_is_urgent_when_its_data_says_so(data: object, urgent: bool) -> None:
    payload = json.dumps({"update_id": 1, "callback_query": {"from": ANNA, "data": data}}).encode()
    assert reader().read(payload).urgent is urgent


def test_a_text_is_never_urgent() -> None:
    payload = json.dumps({"update_id": 1, "message": {"chat": ANNA, "data": "stop"}}).encode()
    assert reader().read(payload).urgent is False


@pytest.mark.parametrize("content", [b'{"update_id":3,"message":{"text":"\\ud83d"}}', b'{"update_id":3,"n":"\xff"}'])
def test_an_update_whose_text_is_broken_is_still_one_to_record(content: bytes) -> None:
    assert (reader().read(content).update_id, reader().read(content).payload) == (3, content)


@pytest.mark.parametrize(
    "content", [b"", b"no json", b"[]", b'{"update_id":"3"}', b'{"message":{}}', b'{"update_id":1.5}']
)
def test_what_has_no_update_id_is_no_update(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        reader().read(content)
