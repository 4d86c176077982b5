"""getUpdates against the simulator: what comes back, and what each failure becomes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kiebot.botapi.source import TelegramSource
from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.intake.ports import Conflict
from tests.botapi.conftest import Telegram, is_stop

CONFLICT = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


async def test_updates_come_in_order_with_their_lanes_and_their_json(
    telegram: Telegram, source: TelegramSource
) -> None:
    anna, ben = telegram.sim.user(11), telegram.sim.user(22, "Ben")
    await anna.sends("zwölf 🐈")
    await ben.sends("hi")
    updates = await source.fetch(0, timeout_s=3)
    assert [update.lane for update in updates] == ["c11", "c22"]
    assert [update.update_id for update in updates] == anna.update_ids + ben.update_ids
    assert json.loads(updates[0].payload)["message"]["text"] == "zwölf 🐈"
    assert "zwölf 🐈".encode() in updates[0].payload  # not encoded again


async def test_kinds_that_nobody_knows_come_too(telegram: Telegram, source: TelegramSource) -> None:
    telegram.sim.inject("message", {"chat": {"id": 5}, "from": {"id": 5}, "hologram": {"rays": [1, None]}})
    (update,) = await source.fetch(0, timeout_s=3)
    assert json.loads(update.payload)["message"]["hologram"] == {"rays": [1, None]}


async def test_a_broken_character_holds_up_nobody(telegram: Telegram, source: TelegramSource) -> None:
    body = b'{"ok":true,"result":[{"update_id":1,"message":{"chat":{"id":7},"text":"\\ud83d"}},{"update_id":2}]}'
    telegram.sim.faults.answers("getUpdates", 200, body=body)
    broken, other = await source.fetch(0, timeout_s=3)
    assert (broken.update_id, broken.lane, other.update_id) == (1, "c7", 2)
    assert json.loads(broken.payload)["message"]["text"] == "\ud83d"


async def test_the_offset_confirms_what_came_before(telegram: Telegram, source: TelegramSource) -> None:
    anna = telegram.sim.user()
    await anna.sends("one")
    (first,) = await source.fetch(0, timeout_s=3)
    await anna.sends("two")
    (second,) = await source.fetch(first.update_id + 1, timeout_s=3)
    assert second.update_id == first.update_id + 1


async def test_a_poll_asks_for_the_kinds_of_updates_it_was_given_and_names_its_replica(telegram: Telegram) -> None:
    source = TelegramSource(
        telegram.sim.token, is_stop, api_url=telegram.url, replica="réplica-b", allowed_updates=["message", "poll"]
    )
    await telegram.sim.user().sends("hi")
    await source.fetch(7, timeout_s=4, limit=10)
    await source.aclose()
    (call,) = telegram.sim.journal.polls()
    assert call.process == "r?plica-b"
    assert call.arguments == {"offset": "7", "timeout": "4", "limit": "10", "allowed_updates": '["message", "poll"]'}


async def test_a_newer_long_poll_ends_the_older_one_with_a_conflict(telegram: Telegram, source: TelegramSource) -> None:
    other = TelegramSource(telegram.sim.token, is_stop, api_url=telegram.url, replica="replica-b")
    hold = telegram.sim.faults.holds("getUpdates")
    older = asyncio.create_task(source.fetch(0, timeout_s=25))
    await hold.reached()
    hold.release()
    newer = asyncio.create_task(other.fetch(0, timeout_s=25))
    with pytest.raises(Conflict, match="terminated by other getUpdates"):
        await older
    await telegram.sim.user().sends("hi")
    assert len(await newer) == 1
    await other.aclose()


async def test_a_cancelled_poll_leaves_and_the_next_one_works(telegram: Telegram, source: TelegramSource) -> None:
    hold = telegram.sim.faults.holds("getUpdates")
    poll = asyncio.create_task(source.fetch(0, timeout_s=25))
    await hold.reached()
    hold.release()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await telegram.sim.user().sends("hi")
    assert len(await source.fetch(0, timeout_s=3)) == 1


def _timers_of_connections_to(port: int) -> list[list[str]]:
    """Kind and remaining time of the timer of each established connection."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[5].split(":") for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the kernel's timers are read from /proc")
async def test_a_waiting_poll_probes_whether_telegram_is_still_there(
    telegram: Telegram, source: TelegramSource
) -> None:
    poll = asyncio.create_task(source.fetch(0, timeout_s=25))
    hold = telegram.sim.faults.holds("getUpdates")
    await hold.reached()
    timers = _timers_of_connections_to(int(telegram.url.rpartition(":")[2]))
    hold.release()
    poll.cancel()
    assert timers and all(kind == "02" and int(due, 16) <= 300 for kind, due in timers)  # keepalive, in 10 ms


@pytest.mark.parametrize(
    ("status", "description", "expected"),
    [
        (409, CONFLICT, Conflict),
        (409, "Conflict: can't use getUpdates method while webhook is active", Conflict),
        (401, "Unauthorized", Permanent),
        (403, "Forbidden: something new", Permanent),
        (404, "Not Found", Permanent),
        (421, "Misdirected Request: unallowed token specified", Permanent),
        (400, "Logged out", Permanent),
        (500, "Internal Server Error: restart", Transient),
    ],
)
async def test_each_refusal_tells_the_poller_what_to_do(
    telegram: Telegram, source: TelegramSource, status: int, description: str, expected: type[Exception]
) -> None:
    telegram.sim.faults.answers("getUpdates", status, description)
    with pytest.raises(expected) as caught:
        await source.fetch(0, timeout_s=3)
    assert type(caught.value) is expected
    assert "webhook" not in description or "webhook" in str(caught.value)
    assert telegram.sim.token not in str(caught.value)


async def test_a_flood_limit_says_how_long(telegram: Telegram, source: TelegramSource) -> None:
    telegram.sim.faults.answers("getUpdates", 429, retry_after=17)
    with pytest.raises(RateLimited) as caught:
        await source.fetch(0, timeout_s=3)
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("status", [200, 302, 400, 403, 409, 429, 502, 504])
async def test_a_page_of_a_front_end_is_never_taken_for_telegram(
    telegram: Telegram, source: TelegramSource, status: int
) -> None:
    telegram.sim.faults.answers("getUpdates", status, body=b"<html>Service unavailable</html>")
    with pytest.raises(Transient):
        await source.fetch(0, timeout_s=3)


@pytest.mark.parametrize(
    "body",
    [
        b'{"ok":true}',
        b'{"ok":true,"result":true}',
        b'{"ok":true,"result":[{"message":{}}]}',
        b'{"ok":true,"result":[{"update_id":1},',
        b"[]",
        b"",
        b"\xff\xfe",
    ],
)
async def test_an_answer_that_is_no_list_of_updates_is_a_passing_fault(
    telegram: Telegram, source: TelegramSource, body: bytes
) -> None:
    telegram.sim.faults.answers("getUpdates", 200, body=body)
    with pytest.raises(Transient):
        await source.fetch(0, timeout_s=3)


async def test_a_cut_connection_and_a_closed_port_are_passing_faults(
    telegram: Telegram, source: TelegramSource, unused_tcp_port: int
) -> None:
    telegram.sim.faults.cuts_after("getUpdates")
    with pytest.raises(Transient):
        await source.fetch(0, timeout_s=0)
    nobody = TelegramSource(telegram.sim.token, is_stop, api_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Transient):
        await nobody.fetch(0, timeout_s=3)
    await nobody.aclose()


async def test_an_answer_that_never_comes_ends_after_the_margin(telegram: Telegram) -> None:
    source = TelegramSource(telegram.sim.token, is_stop, api_url=telegram.url, margin_s=0.1)
    telegram.sim.faults.delays("getUpdates", 5)
    with pytest.raises(Transient):
        await source.fetch(0, timeout_s=0)
    await source.aclose()


async def test_a_revoked_token_is_refused_for_good(telegram: Telegram, source: TelegramSource) -> None:
    telegram.sim.revoke()
    with pytest.raises(Permanent) as caught:
        await source.fetch(0, timeout_s=3)
    assert caught.value.code == "token_refused"
