"""Flood limits (R1 to R6): slow first, 429 later, counted over all connections."""

import json

from kiebot.simulators.telegram import Rules
from tests.simulators.telegram_kit import Api, png, telegram


def only(rules: Rules, **wanted: float) -> None:
    """Switch every limit off but those given."""
    rules.flood.per_second = rules.flood.chat_per_second = rules.flood.group_per_minute = 0
    for name, value in wanted.items():
        setattr(rules.flood, name, value)


async def test_one_chat_takes_a_short_burst_then_one_message_a_second() -> None:
    async with telegram(limits=True) as (sim, clock, api):
        anna = sim.user()
        sends = [await api.starts("sendMessage", chat_id=anna.user_id, text=str(i)) for i in range(5)]
        assert [send.done() for send in sends] == [True, True, True, False, False]
        await clock.advance(1)
        assert sends[3].done()
        await clock.advance(1)
        assert [message.text for message in anna.messages] == list("01234")


async def test_waits_beyond_eight_seconds_become_429_with_the_seconds() -> None:
    async with telegram(limits=True) as (sim, clock, api):
        anna, boris = sim.user(), sim.user()
        for i in range(11):
            await api.starts("sendMessage", chat_id=anna.user_id, text=str(i))
        response = await api.call("sendMessage", chat_id=anna.user_id, text="too much")
        assert (response.status_code, response.headers["Retry-After"]) == (429, "9")
        assert response.json()["parameters"]["retry_after"] == 9
        await api.ok("sendMessage", chat_id=boris.user_id, text="other chats still work")
        await clock.advance(4)
        early = await api.call("sendMessage", chat_id=anna.user_id, text="too early")
        assert (early.status_code, early.headers["Retry-After"]) == (429, "5")
        assert [call.arguments["text"] for call in sim.journal.too_early()] == ["too early"]
        await clock.advance(5)
        await api.ok("sendMessage", chat_id=anna.user_id, text="in time")
        assert len(anna.messages) == 12


async def test_the_overall_limit_counts_all_connections_of_the_bot() -> None:
    async with telegram(limits=True) as (sim, clock, a):
        b = Api(sim, clock, "replica-b")
        people = [sim.user() for _ in range(40)]
        sends = [await (a, b)[i % 2].starts("sendMessage", chat_id=p.user_id, text="x") for i, p in enumerate(people)]
        assert sum(send.done() for send in sends) == 30
        await clock.advance(0.5)
        assert all(send.done() for send in sends)


async def test_a_group_takes_twenty_messages_a_minute_and_an_album_counts_each_part() -> None:
    async with telegram(limits=True) as (sim, clock, api):
        sim.group(-1001)
        for i in range(18):
            await api.ok("sendMessage", chat_id=-1001, text=str(i))
        photo = (await api.ok("sendPhoto", {"photo": png(9, 9)}, chat_id=sim.user().user_id))["photo"][-1]["file_id"]
        media = json.dumps([{"type": "photo", "media": photo}] * 3)
        assert len(await api.ok("sendMediaGroup", chat_id=-1001, media=media)) == 3
        held = await api.starts("sendMessage", chat_id=-1001, text="held")
        assert not held.done()
        await clock.advance(6)
        assert (await held).status_code == 200


async def test_a_paid_broadcast_passes_the_free_rate_and_costs_stars() -> None:
    async with telegram(limits=True) as (sim, _, api):
        sim.bot.till.balance_nano = 10 * 1_000_000_000
        people = [sim.user() for _ in range(40)]
        for person in people:
            await api.ok("sendMessage", chat_id=person.user_id, text="x", allow_paid_broadcast="true")
        assert all(person.messages for person in people)


async def test_limits_can_be_switched_off_and_the_counted_methods_chosen() -> None:
    async with telegram() as (sim, _, api):
        anna = sim.user()
        for i in range(50):
            await api.ok("sendMessage", chat_id=anna.user_id, text=str(i))

    def count_edits(rules: Rules) -> None:
        only(rules, chat_per_second=1.0, chat_burst=1)
        rules.flood.counted = frozenset({"editmessagetext"})

    async with telegram(limits=True, setup=count_edits) as (sim, clock, api):
        anna = sim.user()
        for i in range(5):
            sent = await api.ok("sendMessage", chat_id=anna.user_id, text=str(i))
        where = {"chat_id": anna.user_id, "message_id": sent["message_id"]}
        await api.ok("editMessageText", **where, text="a")
        second = await api.starts("editMessageText", **where, text="b")
        assert not second.done()
        await clock.advance(1)
        assert (await second).status_code == 200


async def test_too_many_unsent_messages_to_one_chat_are_refused_after_a_delay() -> None:
    def tight(rules: Rules) -> None:
        rules.flood.max_unsent_per_chat = 2

    async with telegram(limits=True, setup=tight) as (sim, clock, api):
        anna = sim.user()
        for i in range(5):
            await api.starts("sendMessage", chat_id=anna.user_id, text=str(i))
        refused = await api.starts("sendMessage", chat_id=anna.user_id, text="x")
        assert not refused.done()
        await clock.advance(3)
        assert (await refused).headers["Retry-After"] == "60"


async def test_uploads_of_the_same_size_are_spaced_but_file_ids_are_not() -> None:
    def spaced(rules: Rules) -> None:
        only(rules)
        rules.flood.spaces_same_size_uploads = True

    async with telegram(limits=True, setup=spaced) as (sim, clock, api):
        people = [sim.user() for _ in range(8)]
        picture = png(64, 64, b"\0" * 200_000)
        sends = [await api.starts("sendPhoto", files={"photo": picture}, chat_id=p.user_id) for p in people]
        assert sum(send.done() for send in sends) == 6  # about one second of burst, then one every 0.2 s
        await clock.advance(0.4)
        file_id = (await sends[-1]).json()["result"]["photo"][-1]["file_id"]
        for person in people:
            await api.ok("sendPhoto", chat_id=person.user_id, photo=file_id)
