"""What python-telegram-bot promises of a rate limiter, kept by ours behind its own ExtBot; and where ours differs."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis
from telegram import BotCommand
from telegram.error import RetryAfter
from telegram.ext import ApplicationBuilder, ExtBot
from telegram.request import BaseRequest, RequestData

from kiebot.botapi.buckets import Bucket, Limits
from kiebot.botapi.ratelimit import SharedRateLimiter
from kiebot.botapi.request import FloodWait

TOKEN = "4242:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
WIDE = Bucket(0.0001, 1000)
MakeBot = Callable[..., ExtBot[Any]]


@dataclass(frozen=True)
class Seen:
    """One request that reached the wire."""

    method: str
    parameters: dict[str, Any]
    at: float

    @property
    def chat(self) -> str:
        return str(self.parameters.get("chat_id"))


@dataclass
class Wire(BaseRequest):
    """The wire below a bot. `floods`: chats whose next send is refused, with the seconds to wait; `slow_s` by chat."""

    floods: dict[str, list[float]] = field(default_factory=dict)
    slow_s: dict[str, float] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    @property
    def read_timeout(self) -> float:
        return 1.0

    async def initialize(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def do_request(
        self, url: str, method: str, request_data: RequestData | None = None, *_times: object, **_more: object
    ) -> tuple[int, bytes]:
        request = Seen(url.rsplit("/", 1)[1], request_data.parameters if request_data else {}, time.monotonic())
        self.seen.append(request)
        await asyncio.sleep(self.slow_s.get(request.chat, 0.0))
        if waits := self.floods.get(request.chat):
            raise FloodWait(waits.pop(0))
        return 200, json.dumps({"ok": True, "result": _result(request.method)}).encode()

    def count(self, chat: object) -> int:
        return sum(1 for request in self.seen if request.chat == str(chat))


def _result(method: str) -> object:
    if method == "getMe":
        return {"id": 4242, "is_bot": True, "first_name": "kiebot", "username": "kiebot_bot"}
    if method == "getUpdates":
        return []
    if method.startswith("send"):
        return {"message_id": 1, "date": 1, "chat": {"id": 1, "type": "private"}}
    return [{"message_id": 1}] if method == "forwardMessages" else True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def make_bot(redis: Redis, redis_prefix: str, wire: Wire) -> MakeBot:
    def make(limits: Limits | None = None, **options: Any) -> ExtBot[Any]:
        limiter = SharedRateLimiter(redis, redis_prefix, limits=limits or Limits(WIDE, WIDE, WIDE), **options)
        return ExtBot(TOKEN, request=wire, get_updates_request=wire, rate_limiter=limiter)

    return make


async def refused(bot: ExtBot[Any], chat_id: int | str) -> float:
    """The seconds to wait that a send to this chat is refused with."""
    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(chat_id, "hi")
    assert isinstance(caught.value, FloodWait)
    return caught.value.seconds


# Integration.


async def test_without_a_limiter_the_library_refuses_its_arguments(wire: Wire) -> None:
    with pytest.raises(ValueError, match="rate_limiter"):
        bot: ExtBot[Any] = ExtBot(TOKEN, request=wire)
        await bot.send_message(1, "hi", rate_limit_args=1)
    assert wire.seen == []


async def test_a_limited_bot_sends_the_very_requests_an_unlimited_one_sends(make_bot: MakeBot, wire: Wire) -> None:
    for bot in (ExtBot(TOKEN, request=wire), make_bot()):
        async with bot:
            await bot.set_my_commands([BotCommand("go", "go")], language_code="en", api_kwargs={"extra": "kept"})
            await bot.send_message(7, "hi", parse_mode="HTML")
    half = len(wire.seen) // 2
    plain, limited = wire.seen[:half], wire.seen[half:]
    assert [(seen.method, seen.parameters) for seen in plain] == [(seen.method, seen.parameters) for seen in limited]
    assert [seen.method for seen in plain] == ["getMe", "setMyCommands", "sendMessage"]
    assert limited[1].parameters["extra"] == "kept"


async def test_the_bot_starts_and_stops_its_limiter_and_may_do_so_again(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot()
    for _ in range(2):
        await bot.initialize()
        await bot.send_message(7, "hi")
        await bot.shutdown()
    assert wire.count(7) == 2


async def test_an_application_takes_it_as_its_limiter(redis: Redis, redis_prefix: str, wire: Wire) -> None:
    limiter = SharedRateLimiter(redis, redis_prefix)
    builder = ApplicationBuilder().token(TOKEN).request(wire).get_updates_request(wire).updater(None)
    application = builder.rate_limiter(limiter).build()
    await application.bot.send_message(7, "hi")
    assert limiter.stats.sent == 1


async def test_getting_updates_never_meets_the_limiter(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(max_wait_s=0.0)
    wire.floods["1"] = [30]
    await refused(bot, 1)
    assert await bot.get_updates() == ()
    assert wire.seen[-1].method == "getUpdates"


# Limits.


@pytest.mark.parametrize("chat_id", [7, "7", -100_7, "-1007", "@channel"])
async def test_the_overall_limit_spaces_messages_to_any_kind_of_chat(
    make_bot: MakeBot, wire: Wire, chat_id: int | str
) -> None:
    bot = make_bot(Limits(overall=Bucket(0.05, 1), chat=WIDE, group=WIDE))
    await asyncio.gather(*(bot.send_message(chat_id, "hi") for _ in range(4)))
    at = [seen.at for seen in wire.seen]
    assert at[-1] - at[0] >= 0.14


@pytest.mark.parametrize(
    ("first", "again"), [(7, "7"), ("7", 7), (-100_7, "-1007"), ("@Channel", "@channel"), ("@channel", "@channel")]
)
async def test_a_chat_is_one_chat_however_it_is_written(make_bot: MakeBot, first: int | str, again: int | str) -> None:
    bot = make_bot(Limits(overall=WIDE, chat=Bucket(9, 1), group=Bucket(9, 1)), max_wait_s=0.0)
    await bot.send_message(first, "hi")
    assert await refused(bot, again) == 9
    await bot.send_message(8, "hi")


@pytest.mark.parametrize(
    ("chat_id", "wait_s"), [(7, 1), ("7", 1), (-7, 20), ("-7", 20), (-100_7, 20), ("@channel", 20)]
)
async def test_groups_and_channels_have_a_limit_of_their_own(
    make_bot: MakeBot, chat_id: int | str, wait_s: float
) -> None:
    bot = make_bot(Limits(overall=WIDE, chat=Bucket(1, 1), group=Bucket(20, 1)), max_wait_s=0.0)
    await bot.send_message(chat_id, "hi")
    assert await refused(bot, chat_id) == wait_s


async def test_a_full_group_holds_up_no_other_chat(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(Limits(overall=WIDE, chat=WIDE, group=Bucket(30, 1)), max_wait_s=60.0)
    await bot.send_message(-1, "hi")
    waiting = asyncio.create_task(bot.send_message(-1, "hi"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await asyncio.gather(*(bot.send_message(chat, "hi") for chat in (-2, -3, 4, 5)))
    assert not waiting.done()
    waiting.cancel()


async def test_calls_without_a_chat_are_not_limited(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(Limits(overall=Bucket(30, 1), chat=WIDE, group=Bucket(30, 1)), max_wait_s=0.0)
    await bot.send_message(7, "hi")
    await bot.set_my_commands([BotCommand("go", "go")])
    for _ in range(8):
        await bot.get_me()
        await bot.edit_message_text("hi", inline_message_id="x")
    assert len(wire.seen) == 18


async def test_whatever_puts_something_into_a_chat_is_limited(make_bot: MakeBot) -> None:
    bot = make_bot(Limits(overall=WIDE, chat=Bucket(30, 1), group=WIDE), max_wait_s=0.0)
    sends: list[Callable[[int], Awaitable[object]]] = [
        lambda chat: bot.send_location(chat, 1.0, 2.0),
        lambda chat: bot.send_dice(chat),
        lambda chat: bot.send_sticker(chat, "file-id"),
        lambda chat: bot.send_poll(chat, "?", ["a", "b"]),
    ]
    for chat, send in enumerate(sends, start=1):
        await send(chat)
        with pytest.raises(FloodWait):
            await send(chat)


async def test_messages_forwarded_together_count_each(make_bot: MakeBot) -> None:
    bot = make_bot(Limits(overall=Bucket(1, 5), chat=WIDE, group=WIDE), max_wait_s=0.0)
    await bot.forward_messages(7, 8, [1, 2, 3, 4, 5, 6])
    assert await refused(bot, 9) == 2


async def test_a_paid_broadcast_is_limited_like_any_other_message(make_bot: MakeBot) -> None:
    bot = make_bot(Limits(overall=Bucket(30, 1), chat=WIDE, group=WIDE), max_wait_s=0.0)
    await bot.send_message(7, "hi", allow_paid_broadcast=True)
    with pytest.raises(FloodWait):
        await bot.send_message(8, "hi", allow_paid_broadcast=True)


# Refused by Telegram.


@pytest.mark.parametrize(("made", "asked"), [(0, None), (1, None), (0, 1)])
async def test_a_refused_call_is_repeated_as_often_as_asked_each_time_after_the_wait(
    make_bot: MakeBot, wire: Wire, made: int, asked: int | None
) -> None:
    bot = make_bot(max_retries=made)
    wire.floods["7"] = [1, 1, 1]
    with pytest.raises(RetryAfter):
        await bot.send_message(7, "hi", rate_limit_args=asked)
    at = [seen.at for seen in wire.seen]
    assert len(at) == 1 + (made if asked is None else asked)
    assert all(later - before >= 1.05 for before, later in itertools.pairwise(at))


async def test_a_repeated_call_that_goes_through_is_no_error(make_bot: MakeBot, wire: Wire) -> None:
    wire.floods["7"] = [1]
    await make_bot(max_retries=3).send_message(7, "hi")
    assert wire.count(7) == 2


async def test_what_already_waits_for_its_turn_waits_out_a_pause_too_in_every_replica(
    make_bot: MakeBot, wire: Wire
) -> None:
    limits = Limits(overall=Bucket(0.1, 1), chat=WIDE, group=WIDE)
    one, two = make_bot(limits), make_bot(limits)
    wire.floods["1"] = [2]
    flooded = asyncio.create_task(one.send_message(1, "hi"))
    await asyncio.sleep(0)
    others = [asyncio.create_task(bot.send_message(chat, "hi")) for chat, bot in ((2, one), (3, two), (4, two))]
    with pytest.raises(RetryAfter):
        await flooded
    refused_at = time.monotonic()
    await asyncio.gather(*others)
    assert all(seen.at - refused_at >= 1.9 for seen in wire.seen[1:])
    assert len(wire.seen) == 4


async def test_a_call_under_way_that_succeeds_does_not_end_a_pause(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(max_wait_s=0.0)
    wire.slow_s["2"] = 0.2
    under_way = asyncio.create_task(bot.send_message(2, "hi"))
    await asyncio.sleep(0.05)
    wire.floods["1"] = [20]
    await refused(bot, 1)
    await under_way
    assert await refused(bot, 3) >= 2


async def test_a_shorter_pause_does_not_end_a_longer_one(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(max_wait_s=0.0)
    wire.slow_s |= {"1": 0.05, "2": 0.1}
    wire.floods |= {"1": [20], "2": [10]}
    await asyncio.gather(bot.send_message(1, "hi"), bot.send_message(2, "hi"), return_exceptions=True)
    assert await refused(bot, 1) > 15


async def test_one_refused_chat_pauses_the_others_for_three_seconds_and_itself_for_all_of_it(
    make_bot: MakeBot, wire: Wire
) -> None:
    bot = make_bot(max_wait_s=0.0)
    wire.floods["-1"] = [40]
    await refused(bot, -1)
    assert await refused(bot, 7) in (3, 4)
    assert await refused(bot, -1) in (40, 41)
    assert wire.count(7) == 0


async def test_an_answer_to_a_press_or_an_inline_query_waits_for_no_pause(make_bot: MakeBot, wire: Wire) -> None:
    bot = make_bot(max_wait_s=0.0)
    wire.floods["1"] = [40]
    await refused(bot, 1)
    await bot.answer_callback_query("1")
    await bot.answer_inline_query("1", [])
    await bot.answer_pre_checkout_query("1", ok=True)
    with pytest.raises(FloodWait):
        await bot.delete_message(7, 1)
    assert len(wire.seen) == 4


async def test_a_thousand_groups_leave_nothing_in_memory_or_redis(
    make_bot: MakeBot, redis: Redis, redis_prefix: str
) -> None:
    bot = make_bot()
    await asyncio.gather(*(bot.send_message(-chat, "hi") for chat in range(1, 514)))
    await asyncio.sleep(0.2)
    assert [key async for key in redis.scan_iter(f"{redis_prefix}:*")] == []
