"""getUpdates: offsets, conflicts, pacing, wake-up (F1 to F7, F9, F10, F12)."""

import asyncio

import pytest

from kiebot.simulators.telegram import TelegramSimulator
from tests.simulators.telegram_kit import Api, ids, telegram

OTHER_POLL = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


def fill(sim: TelegramSimulator, count: int) -> list[int]:
    now = int(sim.clock.now())
    return sim.inject_many(count, lambda i: ("message", {"message_id": i + 1, "date": now, "chat": {"id": 1}}))


# F1: offsets


async def test_an_offset_confirms_everything_below_it_at_once() -> None:
    async with telegram() as (sim, _, api):
        first, second, third = fill(sim, 3)
        assert ids(await api.call("getUpdates")) == [first, second, third]
        assert ids(await api.call("getUpdates", offset=second)) == [second, third]
        assert ids(await api.call("getUpdates", offset=1)) == [second, third]  # nothing comes back to life
        assert len(sim.bot.queue) == 2


async def test_an_offset_far_beyond_the_tail_is_not_believed() -> None:
    async with telegram() as (sim, _, api):
        stored = fill(sim, 2)
        tail = stored[-1] + 1
        assert ids(await api.call("getUpdates", offset=tail + 11)) == stored
        assert len(sim.bot.queue) == 2


async def test_an_offset_slightly_beyond_the_tail_deletes_present_and_future_updates() -> None:
    async with telegram() as (sim, clock, api):
        tail = fill(sim, 2)[-1] + 1
        assert ids(await api.call("getUpdates", offset=tail + 2)) == []
        fill(sim, 3)
        await clock.advance(5)
        assert ids(await api.call("getUpdates", offset=tail + 2)) == [tail + 2]


async def test_a_negative_offset_keeps_the_last_ones_unconfirmed() -> None:
    async with telegram() as (sim, clock, api):
        stored = fill(sim, 5)
        assert ids(await api.call("getUpdates", offset=-2)) == stored[3:]
        await clock.advance(1)
        assert ids(await api.call("getUpdates", offset=-10)) == stored[3:]


async def test_confirmation_counts_even_when_the_answer_is_lost() -> None:
    async with telegram() as (sim, _, api):
        stored = fill(sim, 2)
        sim.faults.cuts_after("getUpdates")
        with pytest.raises(ConnectionResetError):
            await api.call("getUpdates", offset=stored[1])
        assert ids(await api.call("getUpdates")) == stored[1:]


async def test_limits_are_clamped_and_lenient() -> None:
    async with telegram() as (sim, _, api):
        fill(sim, 150)
        assert len(ids(await api.call("getUpdates"))) == 100
        assert len(ids(await api.call("getUpdates", offset="1x", limit="garbage"))) == 1
        assert len(ids(await api.call("getUpdates", offset="2", limit="7abc"))) == 7


async def test_an_answer_stops_before_four_mebibytes() -> None:
    async with telegram() as (sim, _, api):
        date = int(sim.clock.now())
        sim.inject_many(20, lambda i: ("message", {"date": date, "chat": {"id": 1}, "text": "x" * 400_000}))
        assert len(ids(await api.call("getUpdates"))) == 10


# F2: who gets the 409


async def test_a_newer_long_poll_ends_the_older_one_with_409() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock, "replica-b")
        older = await a.polls()
        await clock.advance(4)
        newer = await b.polls()
        answer = await older
        assert answer.status_code == 409
        assert answer.json() == {"ok": False, "error_code": 409, "description": OTHER_POLL}
        assert "Retry-After" not in answer.headers
        assert not newer.done()
        fill(sim, 1)
        await clock.advance(0.002)
        assert len(ids(await newer)) == 1
        assert [call.process for call in sim.journal.conflicts_to_live_clients()] == ["replica-a"]
        assert [(o.first.process, o.second.process) for o in sim.journal.live_poll_overlaps()] == [
            ("replica-a", "replica-b")
        ]


async def test_a_poll_that_finds_updates_disturbs_nobody() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock, "replica-b")
        tail = fill(sim, 1)[0] + 1
        parked = await a.polls(offset=tail)
        stored = fill(sim, 1)
        assert ids(await b.call("getUpdates", offset=0, timeout=30)) == stored
        assert not parked.done()
        await clock.advance(0.002)
        assert ids(await parked) == stored  # both saw it, nobody got 409: the natural overlap


async def test_an_empty_poll_without_timeout_disturbs_nobody() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock)
        parked = await a.polls(offset=5)
        assert ids(await b.call("getUpdates", offset=6, timeout=0)) == []
        assert not parked.done()
        await clock.advance(30)
        assert ids(await parked) == []


# F3: pacing


async def test_a_second_conflict_within_three_seconds_is_answered_three_seconds_late() -> None:
    async with telegram() as (sim, clock, a):
        b, c = Api(sim, clock), Api(sim, clock)
        first = await a.polls(offset=1)
        second = await b.polls(offset=2)
        assert (await first).status_code == 409
        await clock.advance(1)
        third = await c.polls(offset=3)
        await clock.advance(2.9)
        assert not second.done()
        assert sim.bot.polls.parked is not None
        await clock.advance(0.1)
        assert (await second).status_code == 409
        fourth = await a.polls(offset=4)  # the held-back answer opened no window of its own
        assert (await third).status_code == 409
        fourth.cancel()


# F4: slow-down


async def test_the_same_offset_again_within_three_seconds_waits_three_seconds() -> None:
    async with telegram() as (_, clock, api):
        assert ids(await api.call("getUpdates", offset=7)) == []
        await clock.advance(2.9)
        again = await api.polls(offset=7, timeout=0)
        assert not again.done()
        await clock.advance(3)
        assert ids(await again) == []


async def test_the_same_offset_within_half_a_second_gets_one_update() -> None:
    async with telegram() as (sim, clock, a):
        stored = fill(sim, 3)
        b = Api(sim, clock)
        assert ids(await a.call("getUpdates", offset=stored[0])) == stored
        await clock.advance(0.4)
        assert ids(await b.call("getUpdates", offset=stored[0])) == stored[:1]
        await clock.advance(0.6)
        assert ids(await b.call("getUpdates", offset=stored[0])) == stored


async def test_a_harmless_looking_poll_with_the_leaders_offset_knocks_the_leader_out() -> None:
    async with telegram() as (sim, clock, leader):
        parked = await leader.polls(offset=9)
        await clock.advance(2)
        other = await Api(sim, clock).polls(offset=9, timeout=0)
        assert (await parked).status_code == 409
        await clock.advance(3)
        assert ids(await other) == []


# F5: dead clients


async def test_an_orphan_poll_stays_parked_and_loses_nothing() -> None:
    async with telegram() as (sim, clock, a):
        orphan = await a.polls()
        await clock.advance(1)
        orphan.cancel()
        await asyncio.gather(orphan, return_exceptions=True)
        parked = sim.bot.polls.parked
        assert parked is not None
        assert parked.disconnected_at == clock.monotonic()
        stored = fill(sim, 1)
        await clock.advance(0.002)
        assert parked.status == 200
        assert parked.update_ids == tuple(stored)
        assert ids(await Api(sim, clock).call("getUpdates")) == stored


async def test_ending_an_orphan_is_no_live_conflict_but_opens_the_pacing_window() -> None:
    async with telegram() as (sim, clock, a):
        b, c = Api(sim, clock, "replica-b"), Api(sim, clock, "replica-c")
        orphan = await a.polls(offset=1)
        orphan.cancel()
        await asyncio.gather(orphan, return_exceptions=True)
        second = await b.polls(offset=2)
        assert sim.journal.polls()[0].status == 409
        assert sim.journal.conflicts_to_live_clients() == []
        assert sim.journal.live_poll_overlaps() == []
        third = await c.polls(offset=3)
        await clock.advance(2.9)
        assert not second.done()
        await clock.advance(0.1)
        assert (await second).status_code == 409
        third.cancel()


# F6: scripted overlap


async def test_the_overlap_switch_shows_an_update_to_both_polls() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock)
        sim.faults.overlaps()
        parked = await a.polls(offset=1)
        stored = fill(sim, 1)
        await clock.advance(1)
        assert not parked.done()
        assert ids(await b.call("getUpdates", offset=2, timeout=30)) == stored
        assert ids(await parked) == stored


# F7: timeout and wake-up


async def test_a_timeout_is_cut_to_fifty_seconds_and_ends_with_nothing() -> None:
    async with telegram() as (_, clock, api):
        poll = await api.polls(timeout=500)
        await clock.advance(49.9)
        assert not poll.done()
        await clock.advance(0.1)
        assert ids(await poll) == []


async def test_updates_close_together_share_one_answer() -> None:
    async with telegram() as (sim, clock, api):
        poll = await api.polls()
        fill(sim, 1)
        await clock.advance(0.0008)
        fill(sim, 1)
        await clock.advance(0.0008)
        fill(sim, 1)
        assert not poll.done()
        await clock.advance(0.0004)  # two milliseconds after the first one, quiet or not
        assert len(ids(await poll)) == 3


# F9: webhook and polls


async def test_polling_is_refused_while_a_webhook_is_set() -> None:
    async with telegram() as (_, clock, api):
        poll = await api.polls()
        await api.ok("setWebhook", url="https://bot.example.com/hook")
        answer = await poll
        assert answer.json()["description"] == "Conflict: terminated by setWebhook request"
        await clock.advance(3)
        code, text = await api.refused("getUpdates")
        assert code == 409
        assert text == (
            "Conflict: can't use getUpdates method while webhook is active; "
            "use deleteWebhook to delete the webhook first"
        )
        await api.ok("deleteWebhook")
        await clock.advance(3)
        parked = await api.polls(offset=77)
        await api.ok("deleteWebhook", drop_pending_updates="true")
        assert not parked.done()
        parked.cancel()


# F10: allowed_updates


async def test_allowed_updates_stick_and_are_shared_by_all_clients() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock)
        anna = sim.user()
        await a.ok("getUpdates", allowed_updates='["CALLBACK_QUERY", "nonsense"]')
        for ignored in ("", "[", '{"a":1}', "[1]"):
            await b.ok("getUpdates", offset=1, allowed_updates=ignored, limit=50)
            await clock.advance(4)
        assert (await anna.sends("dropped")).update_ids == ()
        assert (await b.ok("getWebhookInfo"))["allowed_updates"] == ["callback_query"]
        assert [purge.reason for purge in sim.journal.purges()] == ["not_allowed"]
        await b.ok("getUpdates", offset=2, allowed_updates="[]")
        assert len((await anna.sends("kept")).update_ids) == 1
        assert "allowed_updates" not in await b.ok("getWebhookInfo")
        assert sim.inject("message_reaction", {"date": int(clock.now())}) is None


# F12: a frozen leader


async def test_a_held_poll_is_judged_by_the_rules_of_its_release() -> None:
    async with telegram() as (sim, clock, a):
        b = Api(sim, clock, "replica-b")
        stored = fill(sim, 1)
        hold = sim.faults.holds("getUpdates", matches=lambda call: call.process == "replica-a")
        frozen = await a.polls(offset=stored[0])
        assert (await hold.reached()).process == "replica-a"
        successor = await b.polls(offset=stored[0] + 1)
        await clock.advance(5)
        assert not successor.done()
        hold.release()
        await clock.settle()
        assert (await successor).status_code == 409
        assert not frozen.done()
        frozen.cancel()


# who polled


async def test_polls_of_one_process_do_not_overlap_with_themselves() -> None:
    async with telegram() as (sim, clock, a):
        same = Api(sim, clock, "replica-a")
        first = await a.polls(offset=1)
        second = await same.polls(offset=2)
        assert (await first).status_code == 409
        assert sim.journal.live_poll_overlaps() == []
        nameless = Api(sim, clock)
        third = await nameless.polls(offset=3)  # known by its connection only
        await clock.advance(1)
        [overlap] = sim.journal.live_poll_overlaps()
        assert (overlap.first.process, overlap.second.process) == ("replica-a", overlap.second.client)
        await clock.advance(2)  # its conflict was held back so long, with a client that waited
        assert (await second).status_code == 409
        assert [overlap.seconds for overlap in sim.journal.live_poll_overlaps()] == [3]
        assert sim.journal.overlap_count == 1
        third.cancel()
