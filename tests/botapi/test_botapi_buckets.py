"""Buckets and the share of one replica, on a clock that is only a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiebot.botapi.buckets import Bucket, Limits, LocalShare, Meter, Send, Turn

LIMITS = Limits()


@given(st.lists(st.floats(0, 0.4), min_size=1, max_size=120))
def test_no_second_ever_holds_more_than_thirty_messages(gaps: list[float]) -> None:
    meter, now, sent = Meter(), 1000.0, []
    for gap in gaps:
        now += gap
        at = meter.room_at(now, LIMITS.overall)
        meter.book(at, LIMITS.overall, 1)
        sent.append(at)
    assert all(sum(1 for other in sent if at <= other < at + 1) <= 30 for at in sent)


@pytest.mark.parametrize(("bucket", "window_s", "most"), [(LIMITS.overall, 1.0, 30), (LIMITS.group, 60.0, 20)])
def test_the_published_limits_hold_in_every_window(bucket: Bucket, window_s: float, most: int) -> None:
    meter, sent = Meter(), []
    for _ in range(200):
        at = meter.room_at(1000.0, bucket)
        meter.book(at, bucket, 1)
        sent.append(at)
    assert max(sum(1 for other in sent if at <= other < at + window_s) for at in sent) <= most


def test_a_chat_may_have_three_at_once_and_then_one_a_second() -> None:
    share = LocalShare(LIMITS, replicas=1)
    waits = [share.take(Send("7", is_group=False, count=1), 50.0, 5.0).wait_s for _ in range(6)]
    assert waits == pytest.approx([0, 0, 0, 1, 2, 3], abs=0.04)  # the bot's own rate spaces them a little


def test_what_would_wait_too_long_is_not_booked() -> None:
    share = LocalShare(LIMITS, replicas=1)
    send = Send("-100", is_group=True, count=1)
    waits = [share.take(send, 50.0, 5.0).wait_s for _ in range(9)]
    assert waits[:6] == pytest.approx([0, 0, 0, 0, 0, 3.75], abs=0.11)
    assert waits[6:] == pytest.approx([7.5, 7.5, 7.5])


def test_a_full_chat_waits_alone_and_then_takes_its_place_in_the_bots_rate() -> None:
    share = LocalShare(LIMITS, replicas=1)
    full = Send("7", is_group=False, count=1)
    turns = [share.take(full, 50.0, 5.0) for _ in range(6)]
    assert [turn.is_whole for turn in turns] == [True, True, True, False, False, False]
    assert share.take(Send("8", is_group=False, count=1), 51.0, 5.0).wait_s == 0.0
    later = share.take(replace(full, has_turn=True), 51.0, 5.0)
    assert (later.wait_s, later.is_whole) == (0.0, True)


def test_a_share_is_a_fraction_of_the_whole_rate() -> None:
    share = LocalShare(LIMITS, replicas=4)
    waits = [share.take(Send(str(n), is_group=False, count=1), 50.0, 10.0).wait_s for n in range(20)]
    assert waits[1] == pytest.approx(4 / 29)
    assert waits[-1] == pytest.approx(19 * 4 / 29)


def test_what_all_replicas_allowed_leaves_no_debt_for_the_time_alone() -> None:
    share = LocalShare(LIMITS, replicas=4)
    now = 50.0
    for n in range(1000):
        now += 1 / 29
        share.saw(Send(str(n), is_group=False, count=1), Turn(0.0), now)
    assert share.take(Send("x", is_group=False, count=1), now, 5.0).wait_s == pytest.approx(4 / 29)


def test_an_album_takes_its_files_of_the_bots_rate_and_one_of_the_chats() -> None:
    share = LocalShare(LIMITS, replicas=1)
    share.take(Send("7", is_group=False, count=10), 50.0, 5.0)
    assert share.take(Send("7", is_group=False, count=1), 50.0, 5.0).wait_s == pytest.approx(9 / 29)


def test_a_pause_holds_its_chat_or_everybody_and_costs_nothing() -> None:
    share = LocalShare(LIMITS, replicas=1)
    free = Send("7", is_group=False, count=0)
    share.pause("7", 53.0, 50.0)
    share.pause("", 51.0, 50.0)
    share.pause("7", 52.0, 50.0)  # a shorter one does not end it
    assert share.take(free, 50.0, 5.0).wait_s == pytest.approx(3)
    assert share.take(Send("8", is_group=False, count=0), 50.0, 5.0).wait_s == pytest.approx(1)
    assert share.take(free, 53.5, 5.0).wait_s == 0


@pytest.mark.parametrize(("interval_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_lets_nothing_through_is_refused(interval_s: float, burst: int) -> None:
    with pytest.raises(ValueError, match="positive interval"):
        Bucket(interval_s, burst)


def test_chats_that_fell_silent_are_forgotten() -> None:
    share = LocalShare(Limits(overall=Bucket(0.001, 10)), replicas=1)
    for n in range(5000):
        share.take(Send(str(n), is_group=False, count=1), float(n), 5.0)
        share.saw(Send(f"other {n}", is_group=False, count=1), Turn(0.0), float(n))
    assert share.chats_known <= 1001
