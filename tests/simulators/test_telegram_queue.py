"""The update queue: expiry, caps, restarts, logOut, id reset (F8, F11, X1, X8)."""

import pytest

from kiebot.simulators.telegram.queue import MAX_UPDATES
from tests.simulators.telegram_kit import Api, ids, telegram


@pytest.mark.parametrize(
    ("kind", "lives_s"),
    [("callback_query", 150), ("pre_checkout_query", 150), ("inline_query", 30), ("chosen_inline_result", 600)],
)
async def test_questions_expire_within_minutes(kind: str, lives_s: int) -> None:
    async with telegram() as (sim, clock, api):
        update_id = sim.inject(kind, {"id": "1", "from": {"id": 5}})
        await clock.advance(lives_s - 0.5)
        assert ids(await api.call("getUpdates")) == [update_id]
        await clock.advance(4)
        assert ids(await api.call("getUpdates")) == []
        assert [(purge.reason, purge.update_id) for purge in sim.journal.purges()] == [("expired", update_id)]


async def test_messages_live_a_day_from_their_own_date() -> None:
    async with telegram() as (sim, clock, api):
        now = int(clock.now())
        assert sim.inject("message", {"date": now - 90_000, "chat": {"id": 1}}) is None
        kept = sim.inject("message", {"date": now - 80_000, "chat": {"id": 1}})
        await clock.advance(6_000)
        assert ids(await api.call("getUpdates")) == [kept]
        await clock.advance(400)
        assert ids(await api.call("getUpdates")) == []
        assert [purge.reason for purge in sim.journal.purges()] == ["too_old", "expired"]


async def test_expired_updates_count_as_pending_until_they_are_swept() -> None:
    async with telegram() as (sim, clock, api):
        sim.inject("message", {"date": int(clock.now()), "chat": {"id": 1}})
        await clock.advance(10)
        for _ in range(3):
            sim.inject("inline_query", {"id": "1", "from": {"id": 5}})
        await clock.advance(35)
        assert (await api.ok("getWebhookInfo"))["pending_update_count"] == 4
        await clock.advance(30)
        assert (await api.ok("getWebhookInfo"))["pending_update_count"] == 1


async def test_a_full_queue_drops_new_updates_and_reads_fast() -> None:
    async with telegram() as (sim, clock, api):
        date = int(clock.now())
        stored = sim.inject_many(MAX_UPDATES, lambda i: ("message", {"date": date, "chat": {"id": i % 50}}))
        assert len(stored) == MAX_UPDATES
        assert sim.inject("message", {"date": date, "chat": {"id": 1}}) is None
        assert ids(await api.call("getUpdates", offset=stored[-50])) == stored[-50:]
        assert sim.inject("message", {"date": date, "chat": {"id": 1}}) == stored[-1] + 1  # a lost one takes no id
        assert sim.inject("message", {"date": date, "text": "x" * 600_000}) is None
        assert [purge.reason for purge in sim.journal.purges()] == ["full", "too_big"]


async def test_unconfirmed_updates_come_again_with_the_same_ids() -> None:
    async with telegram() as (sim, clock, a):
        action = await sim.user().sends("hi")
        assert ids(await a.call("getUpdates")) == list(action.update_ids)
        await clock.advance(10)
        assert ids(await Api(sim, clock).call("getUpdates")) == list(action.update_ids)


async def test_an_id_reset_jumps_to_a_lower_id() -> None:
    async with telegram() as (sim, clock, api):
        old = (await sim.user().sends("before")).update_ids[0]
        new = sim.bot.queue.restart_ids()
        assert new < old
        action = await sim.user().sends("after the quiet week")
        assert action.update_ids == (new,)
        assert ids(await api.call("getUpdates", offset=old + 1)) == [new]  # an old offset is not believed
        del clock


async def test_a_restart_cuts_parked_polls_and_keeps_the_queue() -> None:
    async with telegram() as (sim, clock, api):
        poll = await api.polls(offset=1)
        sim.restart()
        with pytest.raises(ConnectionResetError):
            await poll
        assert sim.bot.polls.parked is None
        action = await sim.user().sends("hi")
        sim.rules.login_s = 4.0
        sim.restart()
        waiting = await api.polls(timeout=0)
        assert not waiting.done()  # until the bot is logged in again
        await clock.advance(4)
        assert ids(await waiting) == list(action.update_ids)


async def test_a_restart_may_tell_the_parked_poll_to_retry() -> None:
    async with telegram() as (sim, _, api):
        poll = await api.polls()
        sim.restart(cuts=False)
        answer = await poll
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")


async def test_log_out_empties_the_queue_and_refuses_everything_for_a_while() -> None:
    async with telegram() as (sim, clock, api):
        await clock.advance(3600)
        poll = await api.polls()
        await api.ok("logOut")
        assert ids(await poll) == []
        assert await api.refused("getMe") == (400, "Logged out")
        await clock.advance(1)
        await sim.user().sends("anew")
        assert len(ids(await api.call("getUpdates"))) == 1


async def test_close_is_refused_for_ten_minutes_and_keeps_the_queue() -> None:
    async with telegram() as (sim, clock, api):
        response = await api.call("close")
        assert (response.status_code, response.headers["Retry-After"]) == (429, "600")
        await clock.advance(600)
        action = await sim.user().sends("hi")
        await api.ok("close")
        assert await api.refused("getUpdates") == (500, "Internal Server Error: restart")
        await clock.advance(2)
        assert await api.refused("close") == (400, "Bad Request: the bot has already been closed")
        assert ids(await api.call("getUpdates")) == list(action.update_ids)


async def test_a_front_end_in_trouble_answers_no_json_for_a_while() -> None:
    async with telegram() as (sim, clock, api):
        sim.faults.breaks(for_s=10)
        for _ in range(3):
            response = await api.call("getUpdates")
            assert response.status_code == 502
            assert not response.content.startswith(b"{")
        await clock.advance(10)
        assert (await api.call("getUpdates")).status_code == 200
